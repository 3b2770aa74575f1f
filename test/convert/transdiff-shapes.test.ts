import { describe, expect, it } from 'vitest';
import type { TensorRef } from '../../src/convert/pickle.js';
import { configOf } from '../../src/convert/transdiff-config.js';
import { klDecoderTensors, readKlVaeShapes } from '../../src/convert/kl-vae-shapes.js';
import type { Shapes } from '../../src/convert/shape-check.js';
import { readTransDiffShapes, transDiffTensors, type TransDiffShapes } from '../../src/convert/transdiff-shapes.js';

/** A state dict of these shapes, without data. */
function stateDict(shapes: Shapes, dtype = 'F32'): Map<string, TensorRef> {
  return new Map([...shapes].map(([name, shape]) => [name, { kind: 'tensor', storage: { kind: 'storage', dtype, key: '0', elements: 0 }, offset: 0, shape: [...shape], strides: [] }]));
}

function elements(shapes: Shapes): number {
  return [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((product, size) => product * size, 1), 0);
}

const RELEASED = { buffer: 64, classes: 1000, latentChannels: 16, grid: 16, conditionTokens: 256, multiReference: false, passes: 1 };
const MRAR = { multiReference: true, passes: 4 };
const B: TransDiffShapes = { ...RELEASED, width: 768, transformerBlocks: 24, diffusionBlocks: 12 };
const L: TransDiffShapes = { ...RELEASED, width: 1024, transformerBlocks: 32, diffusionBlocks: 16 };
const H: TransDiffShapes = { ...RELEASED, width: 1280, transformerBlocks: 40, diffusionBlocks: 20 };

/** Parameters and tensors as they are published for the released sizes (docs/transdiff.md 1). */
const PUBLISHED: [string, TransDiffShapes, number, number, number, number][] = [
  ['B', B, 589, 289_959_184, 12, 256],
  ['L', L, 777, 682_519_568, 16, 256],
  ['H', H, 965, 1_327_891_216, 16, 256],
  ['B MRAR', { ...B, ...MRAR }, 589, 290_044_432, 12, 256],
  ['L MRAR', { ...L, ...MRAR }, 777, 682_633_232, 16, 256],
  ['H MRAR', { ...H, ...MRAR }, 965, 1_328_033_296, 16, 256],
  ['L 512', { ...L, grid: 32 }, 777, 683_306_000, 16, 512],
];

const KL16 = { latentChannels: 16, channels: 128, multiples: [1, 1, 2, 2, 4], residualBlocks: 2 };

describe('readTransDiffShapes', () => {
  it.each(PUBLISHED)('gives the released %s back', (_name, shapes, tensors, parameters, heads, side) => {
    const all = transDiffTensors(shapes);
    expect([all.size, elements(all)]).toEqual([tensors, parameters]);
    expect(readTransDiffShapes(stateDict(all))).toEqual(shapes);
    expect(configOf(shapes, KL16, undefined)).toMatchObject({ num_heads: heads, image_size: side, sampling: { steps: 100 } });
  });

  it('reads smaller grids: blocks of (grid / 2)² positions', () => {
    const small: TransDiffShapes = { multiReference: true, width: 256, transformerBlocks: 8, diffusionBlocks: 4, classes: 300, buffer: 16, conditionTokens: 64, grid: 8, latentChannels: 16, passes: 4 };
    expect(readTransDiffShapes(stateDict(transDiffTensors(small)))).toEqual(small);
  });

  it.each<[string, (tensors: Map<string, TensorRef>) => void, RegExp]>([
    ['a missing tensor', (tensors) => tensors.delete('encoder_blocks.3.mlp.fc1.bias'), /has no tensor encoder_blocks\.3\.mlp\.fc1\.bias/],
    ['a missing block', (tensors) => { for (const name of [...tensors.keys()]) if (name.startsWith('encoder_blocks.5.')) tensors.delete(name); }, /no encoder_blocks\.5/],
    ['a wrong shape', (tensors) => { tensors.get('diffdecoder.net.res_blocks.0.attn2.wk.weight')!.shape = [768, 769]; }, /attn2\.wk\.weight has shape \[768, 769\], expected \[768, 768\]/],
    ['another tensor', (tensors) => tensors.set('text_encoder.weight', tensors.get('fake_latent')!), /holds text_encoder\.weight/],
    ['integers', (tensors) => { tensors.get('fake_latent')!.storage.dtype = 'I64'; }, /fake_latent is of dtype I64/],
    ['no square', (tensors) => { tensors.get('diffdecoder.net.diffusion_pos_embed_learned')!.shape = [1, 250, 768]; }, /250 positions, which is no square/],
    ['blocks that do not fit the grid', (tensors) => { tensors.get('mask_token')!.shape = [1, 32, 768]; }, /mask_token has 32 rows/],
  ])('refuses %s by its name', (_name, spoil, message) => {
    const tensors = stateDict(transDiffTensors({ ...B, ...MRAR }));
    spoil(tensors);
    expect(() => readTransDiffShapes(tensors)).toThrow(message);
  });
});

describe('readKlVaeShapes', () => {
  it('gives the released autoencoder back, whose decoder has 38,189,203 parameters', () => {
    const all = klDecoderTensors(KL16);
    expect([all.size, elements(all)]).toEqual([166, 38_189_203]);
    expect(readKlVaeShapes(stateDict(all))).toEqual(KL16);
  });

  it('refuses a decoder of another kind by the tensor that differs', () => {
    const tensors = stateDict(klDecoderTensors(KL16));
    tensors.delete('decoder.up.3.block.0.nin_shortcut.bias');
    expect(() => readKlVaeShapes(tensors)).toThrow(/no tensor decoder\.up\.3\.block\.0\.nin_shortcut\.bias/);
  });
});

describe('configOf', () => {
  it('refuses a VAE of other latents', () => {
    expect(() => configOf(B, { ...KL16, latentChannels: 4 }, undefined)).toThrow(/4 latent channels, the model 16/);
  });
});
