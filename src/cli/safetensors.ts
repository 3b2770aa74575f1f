import { readFileSync } from 'node:fs';
import type { Tensor } from '../engine/native-types.js';

/** Largest header that is believed; the format's own limit. */
const MAX_HEADER_BYTES = 100_000_000;

const BYTES: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, I64: 8, U8: 1 };

/**
 * A safetensors file as float32 tensors by name. For fixtures, not for weights: the engine maps those itself.
 * Whole numbers (labels, pixels) must be float32 numbers, too.
 *
 *   u64 header bytes | JSON {name: {dtype, shape, data_offsets: [begin, end)}} | data
 */
export function readSafetensors(path: string): Map<string, Tensor> {
  const file = readFileSync(path);
  if (file.length < 8) throw new Error(`${path}: no safetensors file, ${file.length} bytes`);
  const headerBytes = file.readBigUInt64LE(0);
  if (headerBytes > MAX_HEADER_BYTES || Number(headerBytes) + 8 > file.length) {
    throw new Error(`${path}: header of ${headerBytes} bytes in a file of ${file.length}`);
  }
  const dataBegin = 8 + Number(headerBytes);
  const header: unknown = JSON.parse(file.toString('utf8', 8, dataBegin));
  if (typeof header !== 'object' || header === null) throw new Error(`${path}: header is no JSON object`);
  const data = file.subarray(dataBegin);
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.set(name, readTensor(`${path}: tensor ${name}`, entry, data));
  }
  return tensors;
}

function readTensor(where: string, entry: unknown, data: Buffer): Tensor {
  const { dtype, shape, data_offsets: offsets } = entry as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (!isCounts(shape) || !isCounts(offsets) || offsets.length !== 2) throw new Error(`${where} has no valid shape and offsets`);
  const size = typeof dtype === 'string' ? BYTES[dtype] : undefined;
  if (size === undefined) throw new Error(`${where} has dtype ${String(dtype)}; read are ${Object.keys(BYTES).join(', ')}`);
  const [begin, end] = [offsets[0]!, offsets[1]!];
  const count = shape.reduce((product, n) => product * n, 1);
  if (end > data.length || end - begin !== count * size) {
    throw new Error(`${where}: bytes [${begin}, ${end}) of ${data.length} for ${count} numbers of ${size} bytes`);
  }
  return { data: decode(where, String(dtype), data.subarray(begin, end), count), shape };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function decode(where: string, dtype: string, bytes: Buffer, count: number): Float32Array {
  const out = new Float32Array(count);
  const bits = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < count; i += 1) {
    if (dtype === 'F32') {
      out[i] = bytes.readFloatLE(i * 4);
    } else if (dtype === 'BF16') {
      bits.setUint32(0, bytes.readUInt16LE(i * 2) * 0x10000);
      out[i] = bits.getFloat32(0);
    } else if (dtype === 'U8') {
      out[i] = bytes.readUInt8(i);
    } else if (dtype === 'I64') {
      const value = bytes.readBigInt64LE(i * 8);
      out[i] = Number(value);
      if (BigInt(out[i]!) !== value) throw new Error(`${where}: ${value} is no float32`);
    } else {
      out[i] = halfToFloat(bytes.readUInt16LE(i * 2));
    }
  }
  return out;
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
