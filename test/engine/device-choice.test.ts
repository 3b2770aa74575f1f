import { describe, expect, it } from 'vitest';
import { combine, parseBackend, parseDevices } from '../../src/engine/device-choice.js';

describe('parseDevices', () => {
  it.each([
    ['auto', ['auto']],
    ['cpu', ['cpu']],
    ['cuda', ['cuda:0']],
    ['cuda:12', ['cuda:12']],
    ['cuda:0, cuda:1', ['cuda:0', 'cuda:1']],
    ['cpu,cpu', ['cpu', 'cpu']],
  ])('reads %j', (text, devices) => {
    expect(parseDevices(text)).toEqual(devices);
  });

  it.each([
    ['', /expected auto, cpu/],
    ['gpu', /expected auto, cpu/],
    ['cuda:-1', /expected auto, cpu/],
    ['cuda:01', /expected auto, cpu/],
    ['cpu,', /expected auto, cpu/],
    ['reference', /expected auto, cpu/],
    ['auto,cpu', /stands alone/],
    ['cpu,cuda:0', /one kind/],
    ['cuda,cuda:0', /cuda:0 is named twice/],
  ])('refuses %j', (text, message) => {
    expect(() => parseDevices(text)).toThrow(message);
  });
});

describe('combine', () => {
  const both = (device: string, backend: string): readonly string[] => combine(parseDevices(device), parseBackend(backend));

  it.each([
    ['auto', '', ['auto']],
    ['auto', 'cpu', ['cpu']],
    ['auto', 'cuda', ['cuda:0']],
    ['auto', 'cuda:3', ['cuda:3']],
    ['auto', 'reference', ['reference']],
    ['cpu,cpu', 'reference', ['reference', 'reference']],
    ['cpu', 'cpu', ['cpu']],
    ['cuda:1', 'cuda:1', ['cuda:1']],
  ])('--device %s, --backend %j', (device, backend, devices) => {
    expect(both(device, backend)).toEqual(devices);
  });

  it.each([
    ['cpu', 'cuda'],
    ['cuda:0', 'cpu'],
    ['cuda:1', 'cuda'],
    ['cuda:0,cuda:1', 'cuda:0'],
    ['cuda:0', 'reference'],
  ])('refuses --device %s with --backend %s', (device, backend) => {
    expect(() => both(device, backend)).toThrow(/contradict each other/);
  });
});
