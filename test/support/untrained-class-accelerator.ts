import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../src/cli/safetensors.js';
import { writeSafetensors } from '../../src/convert/safetensors-writer.js';
import type { Tensor } from '../../src/engine/native-types.js';
import { ACCELERATOR_FOLDER, type Calibration } from '../../src/model/accelerator.js';
import { writeCalibration } from './accelerator-folder.js';
import { randomIntegers } from './specs.js';

/** A copy of a folder whose model draws classes, without whatever accelerator it has. */
export function copyClassModel(from: string, to: string): string {
  cpSync(from, to, { recursive: true, filter: (path) => path !== join(from, ACCELERATOR_FOLDER) });
  return to;
}

/**
 * Gives the folder a few-step decoder that was never trained, made of the model's own decoder and a random embedding of the
 * jump's length, and a calibration that fits it.
 */
export async function writeUntrainedClassAccelerator(directory: string, overrides: Readonly<Record<string, unknown>> = {}): Promise<Calibration> {
  const folder = join(directory, ACCELERATOR_FOLDER);
  mkdirSync(folder, { recursive: true });
  const below = randomIntegers(7);
  const noise = (shape: number[]): Tensor => ({ shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (below(20_001) / 10_000 - 1) * 0.3) });
  const decoder = [...readSafetensors(join(directory, 'model.safetensors'))].filter(([name]) => name.startsWith('diffdecoder.net.'));
  const interval = decoder
    .filter(([name]) => name.includes('time_embedder'))
    .map(([name, { shape }]): [string, Tensor] => [name.replace('time_embed.time_embedder', 'interval_embed'), noise(shape)]);
  const tensors = new Map([...decoder, ...interval]);
  const headers = [...tensors].map(([name, { shape, data }]) => ({ name, dtype: 'F32', shape, bytes: data.byteLength }));
  await writeSafetensors(join(folder, 'few_step.safetensors'), headers, async ({ name }) => {
    const { buffer, byteOffset, byteLength } = tensors.get(name)!.data;
    return Buffer.from(buffer, byteOffset, byteLength);
  });
  return writeCalibration(directory, overrides);
}
