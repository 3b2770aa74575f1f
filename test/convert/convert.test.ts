import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convertTorchCheckpoint } from '../../src/convert/convert.js';
import { InvalidCheckpoint } from '../../src/convert/invalid-checkpoint.js';
import { readPickle } from '../../src/convert/pickle.js';
import { readSafetensorsHeader } from '../support/safetensors-header.js';

/** Written by torch.save: contiguous, transposed, sliced, scalar, bf16, f16, parameter and int64 tensors. */
const fixture = (name: string): string => join(import.meta.dirname, 'fixtures', name);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ardiff-convert-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function floats(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

describe('convertTorchCheckpoint', () => {
  it('refuses a pickle that names anything but tensors, and leaves no file', async () => {
    const out = join(folder, 'out.safetensors');
    await expect(convertTorchCheckpoint(fixture('hostile.pt'), out)).rejects.toThrow(/names (posix|os)\.system, which is not a tensor/);
    expect(existsSync(out)).toBe(false);
    expect(existsSync(`${out}.partial`)).toBe(false);
  });

  it('refuses files that are no archive, truncated, or have no tensors', async () => {
    const broken = join(folder, 'broken.pt');
    writeFileSync(broken, 'no zip');
    await expect(convertTorchCheckpoint(broken, join(folder, 'out'))).rejects.toThrow(InvalidCheckpoint);
    writeFileSync(broken, readFileSync(fixture('plain.pt')).subarray(0, 1500));
    await expect(convertTorchCheckpoint(broken, join(folder, 'out'))).rejects.toThrow(InvalidCheckpoint);
  });

  it.each(['plain.pt', 'wrapped.pt'])('writes every tensor of %s row major under its own name and dtype', async (name) => {
    const out = join(folder, 'out.safetensors');
    expect(await convertTorchCheckpoint(fixture(name), out)).toMatchObject({ tensors: 8 });
    const { entries: header, data } = readSafetensorsHeader(out);
    const counting = Array.from({ length: 12 }, (_, i) => i);
    expect(header['decoder.a.weight']).toMatchObject({ dtype: 'F32', shape: [3, 4] });
    expect(floats(data('decoder.a.weight'))).toEqual(counting);
    expect(header['decoder.transposed']).toMatchObject({ shape: [4, 3] });
    expect(floats(data('decoder.transposed'))).toEqual([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    expect(floats(data('decoder.slice'))).toEqual([5, 6, 9, 10]);
    expect(header['decoder.scalar']).toMatchObject({ shape: [] });
    expect(floats(data('decoder.scalar'))).toEqual([2.5]);
    expect(header['decoder.bf16']?.dtype).toBe('BF16');
    expect(data('decoder.bf16').toString('hex')).toBe('803f00c0');
    expect(header['decoder.f16']?.dtype).toBe('F16');
    expect(floats(data('decoder.parameter'))).toEqual([1, 1]);
    expect(data('steps').readBigInt64LE(0)).toBe(7n);
  });
});

describe('readPickle', () => {
  const pickle = (hex: string): Buffer => Buffer.from(hex, 'hex');

  it('reads plain data', () => {
    expect(readPickle(pickle('80025d2e'))).toEqual([]);
    expect(readPickle(pickle('80024afeffffff2e'))).toBe(-2);
    expect(readPickle(pickle('80028a0280ff2e'))).toBe(-128);
    expect(readPickle(pickle('80027d58010000006171004b01732e'))).toEqual(new Map([['a', 1]]));
  });

  it.each([
    ['an empty file', ''],
    ['a truncated string', '800258ff00000061'],
    ['an unknown opcode', '8002ff2e'],
    ['INST, which instantiates classes', '800228696f730a73797374656d0a2e'],
    ['a pop from the empty stack', '80022e'],
    ['a missing mark', '8002742e'],
    ['a recall of nothing', '800268092e'],
    ['state for an object', '80025d4e622e'],
    ['a call of data', '80024e29522e'],
  ])('refuses %s', (_, hex) => {
    expect(() => readPickle(pickle(hex))).toThrow(InvalidCheckpoint);
  });

  it('refuses every truncation and survives every single-byte corruption of a real pickle', () => {
    const archive = readFileSync(fixture('plain.pt'));
    const begin = archive.indexOf(Buffer.from('8002', 'hex'));
    const end = archive.indexOf('PK', begin) - 1;
    const good = archive.subarray(begin, archive.lastIndexOf(0x2e, end) + 1);
    for (let i = 0; i < good.length; ++i) {
      const bad = Buffer.from(good);
      bad.writeUInt8(bad.readUInt8(i) ^ 0xff, i);
      try {
        readPickle(bad);
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidCheckpoint);
      }
    }
  });
});
