/** What the state dict of a KL autoencoder says of its decoder by its shapes (docs/transdiff.md 7). */
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import { countBlocks, requireShapes, shapeOf, type Shapes } from './shape-check.js';
import type { StateDict } from './state-dict.js';

export interface KlVaeShapes {
  latentChannels: number;
  /** Channels at full size, before the last convolution. */
  channels: number;
  /** Channels of each level as multiples of `channels`, full size first. */
  multiples: number[];
  /** Of the encoder's levels; the decoder has one more each. */
  residualBlocks: number;
}

/** What of a file belongs to the autoencoder: training leaves a discriminator or a loss beside it. */
const PARTS = ['decoder.', 'encoder.', 'post_quant_conv.', 'quant_conv.'];

export function vaeTensors(tensors: StateDict): StateDict {
  return new Map([...tensors].filter(([name]) => PARTS.some((part) => name.startsWith(part))));
}

export function readKlVaeShapes(tensors: StateDict): KlVaeShapes {
  const [latentChannels] = shapeOf(tensors, 'post_quant_conv.weight', 4);
  const [channels] = shapeOf(tensors, 'decoder.norm_out.weight', 1);
  const levels = countBlocks(tensors, 'decoder.up.');
  const blocks = countBlocks(tensors, 'decoder.up.0.block.');
  if (levels === 0 || blocks < 2) throw new InvalidCheckpoint('has no decoder.up.0.block.*');
  const multiples = Array.from({ length: levels }, (_, level) => {
    const [width] = shapeOf(tensors, `decoder.up.${level}.block.0.conv1.weight`, 4);
    if (width % channels !== 0) throw new InvalidCheckpoint(`level ${level} of the decoder has ${width} channels, which is no multiple of ${channels}`);
    return width / channels;
  });
  const shapes = { latentChannels, channels, multiples, residualBlocks: blocks - 1 };
  requireShapes(tensors, klDecoderTensors(shapes));
  return shapes;
}

/** All that decoding needs. */
export function klDecoderTensors({ latentChannels, channels, multiples, residualBlocks }: KlVaeShapes): Shapes {
  const all = new Map<string, readonly number[]>();
  const conv = (name: string, out: number, input: number, side: number): void => {
    all.set(`${name}.weight`, [out, input, side, side]).set(`${name}.bias`, [out]);
  };
  const norm = (name: string, width: number): void => {
    all.set(`${name}.weight`, [width]).set(`${name}.bias`, [width]);
  };
  const residual = (name: string, input: number, out: number): void => {
    norm(`${name}.norm1`, input);
    conv(`${name}.conv1`, out, input, 3);
    norm(`${name}.norm2`, out);
    conv(`${name}.conv2`, out, out, 3);
    if (input !== out) conv(`${name}.nin_shortcut`, out, input, 1);
  };
  const widths = multiples.map((multiple) => multiple * channels);
  let width = widths.at(-1) ?? channels;
  conv('post_quant_conv', latentChannels, latentChannels, 1);
  conv('decoder.conv_in', width, latentChannels, 3);
  residual('decoder.mid.block_1', width, width);
  norm('decoder.mid.attn_1.norm', width);
  for (const part of ['q', 'k', 'v', 'proj_out']) conv(`decoder.mid.attn_1.${part}`, width, width, 1);
  residual('decoder.mid.block_2', width, width);
  for (let level = widths.length - 1; level >= 0; --level) {
    const out = widths[level] ?? channels;
    for (let block = 0; block <= residualBlocks; ++block) {
      residual(`decoder.up.${level}.block.${block}`, width, out);
      width = out;
    }
    if (level > 0) conv(`decoder.up.${level}.upsample.conv`, width, width, 3);
  }
  norm('decoder.norm_out', width);
  conv('decoder.conv_out', 3, width, 3);
  return all;
}
