/** config.json of a converted TransDiff model: what its shapes say, and what they cannot say from the published table. */
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import type { KlVaeShapes } from './kl-vae-shapes.js';
import type { TransDiffShapes } from './transdiff-shapes.js';

export interface TransDiffConfig {
  architecture: 'transdiff' | 'transdiff-mrar';
  image_size: number;
  width: number;
  num_heads: number;
  transformer_blocks: number;
  diffusion_blocks: number;
  num_classes: number;
  buffer_size: number;
  ar_steps: number;
  vae_channels: number;
  vae_ch: number;
  vae_ch_mult: number[];
  vae_num_res_blocks: number;
  /** Latents are the autoencoder's times this, for unit variance; a constant of the reference. */
  vae_scale: number;
  sampling: PublishedSampling;
  bf16_rounding_before_time_proj: boolean;
}

export interface PublishedSampling {
  steps: number;
  cfg: number;
  /** Factors of drift and noise. */
  scale_0: number;
  scale_1: number;
}

/** Heads by width. */
const HEADS: Readonly<Record<number, number>> = { 768: 12, 1024: 16, 1280: 16 };

/** Settings of the published figures, by width, passes and pixels per side. */
const SAMPLING: Readonly<Record<string, readonly [cfg: number, scale0: number, scale1: number]>> = {
  '768/1/256': [1.3, 0.87, 0.91],
  '1024/1/256': [1.3, 0.89, 0.95],
  '1280/1/256': [1.23, 0.87, 0.93],
  '768/4/256': [1.3, 0.87, 0.91],
  '1024/4/256': [1.3, 0.925, 0.95],
  '1280/4/256': [1.28, 0.87, 0.91],
  '1024/1/512': [1.3, 0.87, 0.87],
};

/** The sampling function's own defaults, for models that were not published. */
const UNPUBLISHED = [1, 1, 1] as const;

const STEPS = 100;

export function configOf(model: TransDiffShapes, vae: KlVaeShapes, heads: number | undefined): TransDiffConfig {
  if (vae.latentChannels !== model.latentChannels) {
    throw new InvalidCheckpoint(`the VAE has ${vae.latentChannels} latent channels, the model ${model.latentChannels}`);
  }
  const imageSize = model.grid * 2 ** (vae.multiples.length - 1);
  const [cfg, scale0, scale1] = SAMPLING[`${model.width}/${model.passes}/${imageSize}`] ?? UNPUBLISHED;
  return {
    architecture: model.multiReference ? 'transdiff-mrar' : 'transdiff',
    image_size: imageSize,
    width: model.width,
    num_heads: headsOf(model.width, heads),
    transformer_blocks: model.transformerBlocks,
    diffusion_blocks: model.diffusionBlocks,
    num_classes: model.classes,
    buffer_size: model.buffer,
    ar_steps: model.passes,
    vae_channels: model.latentChannels,
    vae_ch: vae.channels,
    vae_ch_mult: vae.multiples,
    vae_num_res_blocks: vae.residualBlocks,
    vae_scale: 0.2325,
    sampling: { steps: STEPS, cfg, scale_0: scale0, scale_1: scale1 },
    bf16_rounding_before_time_proj: true,
  };
}

/** No tensor tells the number of heads. */
function headsOf(width: number, asked: number | undefined): number {
  const heads = asked ?? HEADS[width];
  if (heads === undefined) throw new InvalidCheckpoint(`the number of heads cannot be read off the weights, and width ${width} is none of the published ones: give --num-heads`);
  if (width % heads !== 0) throw new InvalidCheckpoint(`width ${width} is no multiple of ${heads} heads`);
  return heads;
}
