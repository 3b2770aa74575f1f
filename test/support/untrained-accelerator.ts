import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../src/cli/safetensors.js';
import { writeSafetensors } from '../../src/convert/safetensors-writer.js';
import type { Tensor } from '../../src/engine/native-types.js';
import { ACCELERATOR_FOLDER } from '../../src/model/accelerator.js';
import { randomIntegers } from './specs.js';

const DRAFT_LAYERS = 2;

/**
 * Weights of an accelerator that was never trained, made from the model's own: its first layers and its head, joined by
 * small random matrices. It drafts badly, in a way that depends on everything it is given, which is what tests of "the
 * same bytes whatever happens" want; that pictures are any good is not what they are about.
 */
export async function writeUntrainedWeights(directory: string): Promise<void> {
  const folder = join(directory, ACCELERATOR_FOLDER);
  mkdirSync(folder, { recursive: true });
  const model = readSafetensors(join(directory, 'model.safetensors'));
  const hidden = model.get('norm.weight')!.data.length;
  const below = randomIntegers(7);
  /** Uniform in [-scale, scale]. */
  const noise = (shape: number[], scale: number): Tensor => ({ shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (below(20_001) / 10_000 - 1) * scale) });
  const ones = (): Tensor => ({ shape: [hidden], data: new Float32Array(hidden).fill(1) });
  const named = (pattern: RegExp): [string, Tensor][] => [...model].filter(([name]) => pattern.test(name));
  const head = named(/^image_head\.net\./);

  const layers = named(new RegExp(`^layers\\.[0-${DRAFT_LAYERS - 1}]\\.`));
  await write(join(folder, 'draft.safetensors'), [
    ['fc.weight', noise([hidden, 2 * hidden], 0.3)],
    ['feature_norm.weight', ones()],
    ['token_norm.weight', ones()],
    ...layers,
    ['norm.weight', ones()],
    ['out.weight', noise([hidden, hidden], 0.02)],
    ['mask_token', noise([hidden], 0.5)],
    ...head.map(([name, tensor]): [string, Tensor] => [name.replace('image_head.net.', 'head.net.'), tensor]),
  ]);
  const interval = head.filter(([name]) => name.includes('time_embed')).map(([name, { shape }]): [string, Tensor] => [name.replace('time_embed', 'interval_embed'), noise(shape, 0.02)]);
  await write(join(folder, 'few_step.safetensors'), [...head, ...interval]);
}

async function write(path: string, tensors: readonly [string, Tensor][]): Promise<void> {
  const byName = new Map(tensors);
  const headers = tensors.map(([name, { shape, data }]) => ({ name, dtype: 'F32', shape, bytes: data.byteLength }));
  await writeSafetensors(path, headers, async ({ name }) => {
    const { buffer, byteOffset, byteLength } = byName.get(name)!.data;
    return Buffer.from(buffer, byteOffset, byteLength);
  });
}
