import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convertTorchCheckpoint } from '../../src/convert/convert.js';
import { InvalidCheckpoint } from '../../src/convert/invalid-checkpoint.js';
import { archive, dict, op, pickle, tensor } from '../support/torch-archive.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ardiff-hostile-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const WEIGHT = Buffer.alloc(16);

async function convert(bytes: Buffer): Promise<void> {
  const from = join(folder, 'in.pth');
  writeFileSync(from, bytes);
  await convertTorchCheckpoint(from, join(folder, 'out.safetensors'));
}

/** What would run if it were unpickled: a command that leaves a file. */
function command(): Buffer[] {
  return [op.mark, op.text(`touch ${join(folder, 'owned')}`), op.tuple];
}

const model = (...entries: [string, Buffer][]): Buffer => pickle(dict(['model', dict(...entries)]));

describe('a checkpoint that somebody prepared', () => {
  it('is an archive like any other where it is honest', async () => {
    await convert(archive(model(['w', tensor('0', [2, 2])]), { 0: WEIGHT }));
    expect(existsSync(join(folder, 'out.safetensors'))).toBe(true);
  });

  it.each<[string, () => Buffer, RegExp]>([
    ['names a function', () => pickle(op.global('posix', 'system'), ...command(), op.reduce), /names posix\.system/],
    ['names a function from the stack', () => pickle(op.text('builtins'), op.text('eval'), op.stackGlobal, ...command(), op.reduce), /names builtins\.eval/],
    ['hides the call in args', () => pickle(dict(['args', Buffer.concat([op.global('subprocess', 'Popen'), ...command(), op.reduce])])), /names subprocess\.Popen/],
    ['names an attribute path', () => pickle(op.global('torch._utils', '_rebuild_tensor_v2.__globals__'), op.emptyTuple, op.reduce), /names torch\._utils\._rebuild_tensor_v2\.__globals__/],
    ['instantiates a class', () => pickle(op.global('collections', 'OrderedDict'), op.emptyTuple, op.newObject), /instantiates collections\.OrderedDict/],
    ['instantiates what is no class', () => pickle(op.text('Namespace'), op.emptyTuple, op.newObject), /instantiates something/],
    ['gives the namespace arguments', () => pickle(op.global('argparse', 'Namespace'), op.mark, op.int(1), op.tuple, op.newObject), /instantiates argparse\.Namespace/],
    ['calls the namespace', () => pickle(op.global('argparse', 'Namespace'), op.emptyTuple, op.reduce), /calls argparse\.Namespace/],
    ['names another class of argparse', () => pickle(op.global('argparse', 'FileType'), op.emptyTuple, op.newObject), /names argparse\.FileType/],
    ['calls a storage type', () => pickle(op.global('torch', 'FloatStorage'), op.emptyTuple, op.reduce), /calls torch\.FloatStorage/],
    ['uses the weights as a function', () => pickle(tensor('0', [4]), op.emptyTuple, op.reduce), /not callable/],
  ])('is refused when it %s, and nothing runs', async (_name, content, message) => {
    const refused = expect(convert(archive(content(), { 0: WEIGHT }))).rejects;
    await refused.toThrow(InvalidCheckpoint);
    await refused.toThrow(message);
    expect(readdirSync(folder)).toEqual(['in.pth']);
  });

  it.each<[string, () => Buffer, RegExp]>([
    ['reaches beyond its storage', () => model(['w', tensor('0', [2, 2], { offset: 1, elements: 4 })]), /beyond its storage/],
    ['repeats a few numbers into gigabytes', () => model(['w', tensor('0', [2 ** 30, 4], { strides: [0, 1], elements: 4 })]), /larger than its storage/],
    ['has a shape whose product overflows', () => model(['w', tensor('0', [2 ** 30, 2 ** 30], { strides: [2 ** 30, 1], elements: 4 })]), /larger than its storage/],
    ['names a storage that is not there', () => model(['w', tensor('../../../etc/passwd', [4])]), /no entry/],
    ['says less than its storage holds', () => model(['w', tensor('0', [1])]), /expected at most 4/],
    ['is called as safetensors calls its metadata', () => model(['__metadata__', tensor('0', [4])]), /__metadata__/],
  ])('is refused when a tensor %s, and leaves no file', async (_name, content, message) => {
    const refused = expect(convert(archive(content(), { 0: WEIGHT }))).rejects;
    await refused.toThrow(InvalidCheckpoint);
    await refused.toThrow(message);
    expect(readdirSync(folder)).toEqual(['in.pth']);
  });

  it('keeps a tensor whose name means something to JavaScript', async () => {
    await convert(archive(model(['__proto__', tensor('0', [4])], ['constructor', tensor('0', [2, 2])]), { 0: WEIGHT }));
    expect(readdirSync(folder).sort()).toEqual(['in.pth', 'out.safetensors']);
  });
});
