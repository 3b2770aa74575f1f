import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { klDecoderTensors } from '../../src/convert/kl-vae-shapes.js';
import { writeSafetensors } from '../../src/convert/safetensors-writer.js';
import type { Shapes } from '../../src/convert/shape-check.js';
import { transDiffTensors } from '../../src/convert/transdiff-shapes.js';
import { randomIntegers } from './specs.js';

const CLASSES = ['ant', 'bee', 'cat', 'dog', 'eel'];
/** Four passes of 16 positions over 8x8 latent pixels, which the decoder doubles. */
const MODEL = { multiReference: true, width: 32, transformerBlocks: 2, diffusionBlocks: 2, classes: CLASSES.length, buffer: 8, conditionTokens: 64, grid: 8, latentChannels: 4, passes: 4 };
const VAE = { latentChannels: 4, channels: 32, multiples: [1, 1], residualBlocks: 1 };

/** A model that draws in passes and was never trained: what it draws is noise that depends on everything it is given. */
export async function writeUntrainedTransDiff(directory: string): Promise<string> {
  mkdirSync(join(directory, 'vae'), { recursive: true });
  const config = {
    architecture: 'transdiff-mrar',
    image_size: 16,
    width: MODEL.width,
    num_heads: 2,
    transformer_blocks: MODEL.transformerBlocks,
    diffusion_blocks: MODEL.diffusionBlocks,
    num_classes: MODEL.classes,
    buffer_size: MODEL.buffer,
    ar_steps: MODEL.passes,
    vae_channels: VAE.latentChannels,
    vae_ch: VAE.channels,
    vae_ch_mult: VAE.multiples,
    vae_num_res_blocks: VAE.residualBlocks,
    vae_scale: 0.2325,
    sampling: { steps: 20, cfg: 1.5, scale_0: 0.9, scale_1: 0.95 },
    bf16_rounding_before_time_proj: true,
  };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  writeFileSync(join(directory, 'classes.json'), JSON.stringify({ version: 1, classes: CLASSES.map((name, index) => ({ index, name })) }));
  await writeRandom(join(directory, 'model.safetensors'), transDiffTensors(MODEL), 1);
  await writeRandom(join(directory, 'vae', 'model.safetensors'), klDecoderTensors(VAE), 2);
  return directory;
}

/** Norms near 1, all else small enough that nothing saturates. */
async function writeRandom(path: string, shapes: Shapes, seed: number): Promise<void> {
  const below = randomIntegers(seed);
  const headers = [...shapes].map(([name, shape]) => ({ name, dtype: 'F32', shape: [...shape], bytes: 4 * shape.reduce((product, size) => product * size, 1) }));
  await writeSafetensors(path, headers, async ({ name, bytes }) => {
    const isScale = /norm[^.]*\.weight$|_ln\.weight$/.test(name);
    const values = Float32Array.from({ length: bytes / 4 }, () => (isScale ? 1 : 0) + (below(20_001) / 10_000 - 1) * 0.15);
    return Buffer.from(values.buffer);
  });
}
