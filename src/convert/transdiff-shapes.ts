/** What a TransDiff state dict says of its model by its shapes, every one of which is checked (docs/transdiff.md 3). */
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import { countBlocks, refuseOthers, requireShapes, shapeOf, type Shapes } from './shape-check.js';
import type { StateDict } from './state-dict.js';

export interface TransDiffShapes {
  /** Several passes over the picture, each with the ones before as reference; else one pass. */
  multiReference: boolean;
  width: number;
  transformerBlocks: number;
  diffusionBlocks: number;
  classes: number;
  /** Positions of the class vector in front of the sequence. */
  buffer: number;
  /** Rows of the transformer's output that the decoder attends to in the last (or only) pass. */
  conditionTokens: number;
  /** Latent pixels per side, each a token of the decoder. */
  grid: number;
  latentChannels: number;
  passes: number;
}

/** Frequencies of the timestep embedding, cosine and sine; no configuration in the reference. */
const TIME_FREQUENCIES = 256;

const MLP_RATIO = 4;

export function isTransDiff(tensors: StateDict): boolean {
  return tensors.has('class_emb.weight') && tensors.has('diffdecoder.net.input_proj.weight');
}

export function readTransDiffShapes(tensors: StateDict): TransDiffShapes {
  const [classes, width] = shapeOf(tensors, 'class_emb.weight', 2);
  const [, maskRows] = shapeOf(tensors, 'mask_token', 3);
  const [, patchValues] = shapeOf(tensors, 'z_proj.weight', 2);
  const [, latentChannels] = shapeOf(tensors, 'diffdecoder.net.input_proj.weight', 2);
  const [, positions] = shapeOf(tensors, 'encoder_pos_embed_learned', 3);
  const [, conditionTokens] = shapeOf(tensors, 'diffusion_pos_embed_learned', 3);
  const [, pictureTokens] = shapeOf(tensors, 'diffdecoder.net.diffusion_pos_embed_learned', 3);
  // A reference is read in patches of 2 x 2 latent pixels; the one-pass model's projection takes single ones, and is never used.
  const multiReference = patchValues === 4 * latentChannels;
  const grid = Math.sqrt(pictureTokens);
  if (!Number.isInteger(grid)) throw new InvalidCheckpoint(`the decoder has ${pictureTokens} positions, which is no square`);
  if (multiReference && (grid % 2 !== 0 || maskRows !== (grid / 2) ** 2 || conditionTokens % maskRows !== 0)) {
    throw new InvalidCheckpoint(`mask_token has ${maskRows} rows and the condition ${conditionTokens}; with ${pictureTokens} latent pixels a block has ${pictureTokens / 4}`);
  }
  const shapes: TransDiffShapes = {
    multiReference,
    width,
    transformerBlocks: countBlocks(tensors, 'encoder_blocks.'),
    diffusionBlocks: countBlocks(tensors, 'diffdecoder.net.res_blocks.'),
    classes,
    buffer: positions - conditionTokens,
    conditionTokens,
    grid,
    latentChannels,
    passes: multiReference ? conditionTokens / maskRows : 1,
  };
  if (shapes.buffer < 1) throw new InvalidCheckpoint(`encoder_pos_embed_learned has ${positions} rows, expected more than the condition's ${conditionTokens}`);
  if (shapes.transformerBlocks === 0 || shapes.diffusionBlocks === 0) throw new InvalidCheckpoint('has no transformer or no diffusion blocks');
  const expected = transDiffTensors(shapes);
  requireShapes(tensors, expected);
  refuseOthers(tensors, expected);
  return shapes;
}

/** All tensors of a model: 9 + 12 per transformer block + 2 + 14 + 23 per diffusion block. */
export function transDiffTensors(shapes: TransDiffShapes): Shapes {
  const { width: D, classes, latentChannels: C, conditionTokens, multiReference, passes } = shapes;
  const all = new Map<string, readonly number[]>();
  const linear = (name: string, out: number, input: number): void => {
    all.set(`${name}.weight`, [out, input]).set(`${name}.bias`, [out]);
  };
  const norm = (name: string): void => {
    all.set(`${name}.weight`, [D]).set(`${name}.bias`, [D]);
  };
  const mlp = (name: string): void => {
    linear(`${name}.fc1`, MLP_RATIO * D, D);
    linear(`${name}.fc2`, D, MLP_RATIO * D);
  };
  all.set('class_emb.weight', [classes, D]);
  all.set('fake_latent', [1, D]);
  all.set('mask_token', [1, multiReference ? conditionTokens / passes : 1, D]);
  all.set('encoder_pos_embed_learned', [1, shapes.buffer + conditionTokens, D]);
  all.set('diffusion_pos_embed_learned', [1, conditionTokens, D]);
  linear('z_proj', D, multiReference ? 4 * C : C);
  norm('z_proj_ln');
  for (let i = 0; i < shapes.transformerBlocks; ++i) {
    const block = `encoder_blocks.${i}`;
    norm(`${block}.norm1`);
    linear(`${block}.attn.qkv`, 3 * D, D);
    linear(`${block}.attn.proj`, D, D);
    norm(`${block}.norm2`);
    mlp(`${block}.mlp`);
  }
  norm('encoder_norm');
  const net = 'diffdecoder.net';
  all.set(`${net}.diffusion_pos_embed_learned`, [1, shapes.grid ** 2, D]);
  linear(`${net}.time_embed.time_embedder.linear_1`, D, TIME_FREQUENCIES);
  linear(`${net}.time_embed.time_embedder.linear_2`, D, D);
  linear(`${net}.time_embed.time_proj`, 6 * D, D);
  linear(`${net}.cond_embed`, D, D);
  linear(`${net}.input_proj`, D, C);
  for (let i = 0; i < shapes.diffusionBlocks; ++i) {
    const block = `${net}.res_blocks.${i}`;
    all.set(`${block}.scale_shift_table`, [1, 6, D]);
    norm(`${block}.norm1`);
    linear(`${block}.attn1.qkv`, 3 * D, D);
    linear(`${block}.attn1.proj`, D, D);
    norm(`${block}.norm2`);
    for (const part of ['wq', 'wk', 'wv', 'proj']) linear(`${block}.attn2.${part}`, D, D);
    norm(`${block}.norm3`);
    mlp(`${block}.mlp`);
  }
  all.set(`${net}.final_layer.scale_shift_table`, [1, 2, D]);
  linear(`${net}.final_layer.linear`, C, D);
  return all;
}
