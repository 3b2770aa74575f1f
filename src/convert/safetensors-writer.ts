/** Writes a safetensors file tensor by tensor, through a temporary name so that a broken run leaves nothing half done. */
import { open, rename, rm } from 'node:fs/promises';
import { InvalidCheckpoint } from './invalid-checkpoint.js';

export interface TensorHeader {
  name: string;
  dtype: string;
  shape: number[];
  bytes: number;
}

/** `data(header)` is called once per tensor, in order, and must give exactly `header.bytes` bytes. */
export async function writeSafetensors(path: string, tensors: readonly TensorHeader[], data: (header: TensorHeader) => Promise<Buffer>): Promise<void> {
  // Names come from a file of unknown origin: without a prototype `__proto__` is a name like any other.
  const header = Object.create(null) as Record<string, unknown>;
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    if (name === '__metadata__') throw new InvalidCheckpoint('a tensor is called __metadata__, which safetensors keeps for itself');
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text + ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));

  const temporary = `${path}.partial`;
  const file = await open(temporary, 'w');
  try {
    await file.write(length);
    await file.write(padded);
    for (const tensor of tensors) {
      const bytes = await data(tensor);
      if (bytes.length !== tensor.bytes) throw new Error(`${tensor.name}: ${bytes.length} bytes, expected ${tensor.bytes}`);
      await file.write(bytes);
    }
    await file.close();
    await rename(temporary, path);
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}
