import { describe, expect, it } from 'vitest';
import { chooseDevice } from '../../src/engine/device.js';
import type { CudaDeviceInfo, CudaDevices } from '../../src/engine/native-types.js';

const CPU = { name: 'AMD EPYC', memoryBytes: 100 };
const H100: CudaDeviceInfo = { name: 'NVIDIA H100', architecture: '9.0', memoryBytes: 80, problem: '' };
const T4: CudaDeviceInfo = { name: 'Tesla T4', architecture: '7.5', memoryBytes: 16, problem: 'compute capability 7.5, 8.0 is needed' };

const found = (...devices: CudaDeviceInfo[]): CudaDevices => ({ version: '13.0', problem: devices.length === 0 ? 'no CUDA driver on this machine' : '', devices });

describe('chooseDevice', () => {
  it('auto: takes the first CUDA device that can be used', () => {
    expect(chooseDevice('auto', found(H100), CPU)).toEqual({ id: 'cuda:0', name: 'NVIDIA H100', memoryBytes: 80, reason: 'auto: the first CUDA device that can be used' });
    expect(chooseDevice('auto', found(T4, H100), CPU)).toMatchObject({ id: 'cuda:1', name: 'NVIDIA H100' });
  });

  it('auto: else the processor, and says what was in the way', () => {
    expect(chooseDevice('auto', found(), CPU)).toEqual({ id: 'cpu', name: 'AMD EPYC', memoryBytes: 100, reason: 'auto: no CUDA driver on this machine' });
    expect(chooseDevice('auto', found(T4), CPU).reason).toBe('auto: cuda:0 (Tesla T4): compute capability 7.5, 8.0 is needed');
  });

  it('never takes another than the one that was named', () => {
    expect(chooseDevice('cuda:1', found(H100), CPU)).toEqual({ id: 'cuda:1', name: 'unknown', memoryBytes: 0, reason: 'asked for' });
    expect(chooseDevice('cuda:0', found(), CPU).id).toBe('cuda:0');
    expect(chooseDevice('cpu', found(H100), CPU)).toMatchObject({ id: 'cpu', name: 'AMD EPYC' });
    expect(chooseDevice('reference', found(H100), CPU)).toMatchObject({ id: 'reference', name: 'AMD EPYC' });
  });
});
