/** torch.save archive -> safetensors, the same tensors under the same names. */
import { elementBytes, TorchArchive } from './torch-archive.js';
import { findStateDict } from './state-dict.js';
import { writeSafetensors, type TensorHeader } from './safetensors-writer.js';

export interface Converted {
  tensors: number;
  bytes: number;
}

export async function convertTorchCheckpoint(from: string, to: string): Promise<Converted> {
  const archive = await TorchArchive.open(from);
  try {
    const tensors = findStateDict(await archive.pickle());
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
  } finally {
    archive.close();
  }
}
