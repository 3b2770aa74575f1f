import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSafetensors } from '../../src/cli/safetensors.js';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'ardiff-safetensors-'));
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

function write(header: unknown, data: Buffer): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const path = join(directory, 'file.safetensors');
  writeFileSync(path, Buffer.concat([length, json, data]));
  return path;
}

describe('readSafetensors', () => {
  it('refuses files that lie', () => {
    const path = join(directory, 'file.safetensors');
    writeFileSync(path, Buffer.alloc(3));
    expect(() => readSafetensors(path)).toThrow(/3 bytes/);
    writeFileSync(path, Buffer.from([255, 255, 255, 255, 255, 255, 255, 255, 0]));
    expect(() => readSafetensors(path)).toThrow(/header of/);
    const entry = (change: object): object => ({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...change } });
    const eight = Buffer.alloc(8);
    expect(() => readSafetensors(write(entry({ data_offsets: [0, 16] }), eight))).toThrow(/tensor a: bytes/);
    expect(() => readSafetensors(write(entry({ shape: [3] }), eight))).toThrow(/3 numbers/);
    expect(() => readSafetensors(write(entry({ shape: [-1] }), eight))).toThrow(/shape/);
    expect(() => readSafetensors(write(entry({ dtype: 'F64' }), eight))).toThrow(/F64/);
    const large = Buffer.alloc(8);
    large.writeBigInt64LE(2n ** 24n + 1n);
    expect(() => readSafetensors(write(entry({ dtype: 'I64', shape: [1] }), large))).toThrow(/16777217 is no float32/);
  });

  it('reads labels and pixels', () => {
    const data = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255, 7, 255]);
    const header = { a: { dtype: 'I64', shape: [2], data_offsets: [0, 16] }, b: { dtype: 'U8', shape: [2], data_offsets: [16, 18] } };
    const tensors = readSafetensors(write(header, data));
    expect([...tensors.get('a')!.data, ...tensors.get('b')!.data]).toEqual([3, -2, 7, 255]);
  });

  it('reads float32, float16 and bfloat16, and skips metadata', () => {
    const data = Buffer.alloc(4 + 6 + 4);
    data.writeFloatLE(-1.5, 0);
    data.writeUInt16LE(0x3c00, 4); // 1 as half
    data.writeUInt16LE(0x0001, 6); // smallest subnormal half
    data.writeUInt16LE(0xfc00, 8); // -infinity
    data.writeUInt16LE(0x3f80, 10); // 1 as bfloat16
    data.writeUInt16LE(0xc040, 12); // -3 as bfloat16
    const tensors = readSafetensors(
      write(
        {
          __metadata__: { format: 'pt' },
          a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
          b: { dtype: 'F16', shape: [3], data_offsets: [4, 10] },
          c: { dtype: 'BF16', shape: [1, 2], data_offsets: [10, 14] },
        },
        data,
      ),
    );
    expect([...tensors.keys()]).toEqual(['a', 'b', 'c']);
    expect([...tensors.get('a')!.data]).toEqual([-1.5]);
    expect([...tensors.get('b')!.data]).toEqual([1, 2 ** -24, -Infinity]);
    expect(tensors.get('c')).toEqual({ data: Float32Array.of(1, -3), shape: [1, 2] });
  });
});
