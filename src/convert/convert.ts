/** torch.save archive -> safetensors, the same tensors under the same names. */
import { elementBytes, TorchArchive } from './torch-archive.js';
import { findStateDict, type StateDict } from './state-dict.js';
import { writeSafetensors, type TensorHeader } from './safetensors-writer.js';

export interface Converted {
  tensors: number;
  bytes: number;
}

export async function convertTorchCheckpoint(from: string, to: string): Promise<Converted> {
  return withCheckpoint(from, (tensors, archive) => writeTensors(archive, tensors, to));
}

/** Opens the archive for as long as `use` takes. */
export async function withCheckpoint<T>(from: string, use: (tensors: StateDict, archive: TorchArchive) => Promise<T>): Promise<T> {
  const archive = await TorchArchive.open(from);
  try {
    return await use(findStateDict(await archive.pickle()), archive);
  } finally {
    archive.close();
  }
}

/** Dtypes stay as they are stored: the engine widens what it must. */
export async function writeTensors(archive: TorchArchive, tensors: StateDict, to: string): Promise<Converted> {
  const headers: TensorHeader[] = [...tensors].map(([name, { shape, storage }]) => ({
    name,
    dtype: storage.dtype,
    shape,
    bytes: shape.reduce((product, size) => product * size, 1) * elementBytes(storage.dtype),
  }));
  await writeSafetensors(to, headers, async ({ name }) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    return archive.tensorBytes(tensor);
  });
  return { tensors: headers.length, bytes: headers.reduce((sum, { bytes }) => sum + bytes, 0) };
}
