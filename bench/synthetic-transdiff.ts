import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { klDecoderTensors } from '../src/convert/kl-vae-shapes.js';
import { writeSafetensors } from '../src/convert/safetensors-writer.js';
import type { Shapes } from '../src/convert/shape-check.js';
import { configOf } from '../src/convert/transdiff-config.js';
import { transDiffTensors, type TransDiffShapes } from '../src/convert/transdiff-shapes.js';
import { xorshift } from './synthetic.js';

/** TransDiff-L of 256 pixels with its autoencoder, as released (docs/transdiff.md 1): in four passes, or in one. */
const L: Omit<TransDiffShapes, 'multiReference' | 'passes'> = {
  width: 1024, transformerBlocks: 32, diffusionBlocks: 16, classes: 1000, buffer: 64, conditionTokens: 256, grid: 16, latentChannels: 16,
};
const VAE = { latentChannels: 16, channels: 128, multiples: [1, 1, 2, 2, 4], residualBlocks: 2 };

/** A TransDiff-L of random bfloat16 weights, 1.4 GB. Returns the number of its parameters, without the autoencoder's. */
export async function writeTransDiffL(folder: string, passes: 1 | 4): Promise<number> {
  const shapes: TransDiffShapes = { ...L, multiReference: passes > 1, passes };
  mkdirSync(join(folder, 'vae'), { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(configOf(shapes, VAE, undefined)));
  const tensors = transDiffTensors(shapes);
  await writeRandom(join(folder, 'model.safetensors'), tensors);
  await writeRandom(join(folder, 'vae', 'model.safetensors'), klDecoderTensors(VAE));
  return [...tensors.values()].reduce((sum, shape) => sum + count(shape), 0);
}

/** Of numbers that repeat: what they are costs nobody time, as long as hidden states stay finite and none is denormal. */
const PERIOD = 65_537;

/** Norm weights 1; rows of all else keep the variance of what they multiply. */
async function writeRandom(path: string, shapes: Shapes): Promise<void> {
  const random = xorshift(1);
  const headers = [...shapes].map(([name, shape]) => ({ name, dtype: 'BF16', shape: [...shape], bytes: 2 * count(shape) }));
  const bits = new Uint32Array(1);
  const word = new Float32Array(bits.buffer);
  const bfloat16 = (value: number): number => {
    word[0] = value;
    return bits[0]! >>> 16;
  };
  await writeSafetensors(path, headers, async ({ name, shape, bytes }) => {
    const isNorm = /(norm[^.]*|_ln)\.weight$/.test(name);
    const scale = Math.sqrt(3 / (shape.length > 1 ? count(shape.slice(1)) : 64));
    const values = new Uint16Array(bytes / 2);
    const first = Math.min(values.length, PERIOD);
    for (let i = 0; i < first; i += 1) values[i] = bfloat16(isNorm ? 1 : scale * (random() * 2 - 1));
    for (let filled = first; filled < values.length; filled *= 2) values.copyWithin(filled, 0, Math.min(filled, values.length - filled));
    return Buffer.from(values.buffer);
  });
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
