import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** A NextStep of random bfloat16 weights in the released layout: big enough that a decode step reads main memory. */
export interface SyntheticShape {
  hidden: number;
  intermediate: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

const VOCABULARY = 512;
const TOKEN = 64;
const HEAD_WIDTH = 64;
const HEAD_BLOCKS = 1;

/** Writes the folder unless it is there already; returns the backbone's bytes that one decode step reads. */
export function writeSynthetic(folder: string, shape: SyntheticShape): { backboneBytes: number; parameters: number } {
  const backbone = backboneTensors(shape);
  const parameters = backbone.reduce((sum, [, dims]) => sum + count(dims), 0);
  const stamp = JSON.stringify(shape);
  const stampPath = join(folder, 'shape.json');
  if (!existsSync(stampPath) || readFileSync(stampPath, 'utf8') !== stamp) {
    mkdirSync(join(folder, 'vae'), { recursive: true });
    writeFileSync(join(folder, 'config.json'), JSON.stringify(configOf(shape)));
    writeFileSync(join(folder, 'vae', 'config.json'), JSON.stringify(VAE_CONFIG));
    writeSafetensors(join(folder, 'model.safetensors'), [...backbone, ...imageTensors(shape.hidden)]);
    writeSafetensors(join(folder, 'vae', 'model.safetensors'), vaeTensors());
    writeFileSync(stampPath, stamp);
  }
  return { backboneBytes: 2 * parameters, parameters };
}

type Entry = readonly [name: string, dims: readonly number[]];

function configOf({ hidden, intermediate, layers, heads, kvHeads, headDim }: SyntheticShape): object {
  return {
    model_type: 'nextstep',
    vocab_size: VOCABULARY,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    rms_norm_eps: 1e-5,
    rope_theta: 1e6,
    max_position_embeddings: 4096,
    attention_bias: true,
    o_attention_bias: false,
    mlp_bias: false,
    latent_patch_size: 2,
    latent_channels: TOKEN / 4,
    boi: 3,
    eoi: 4,
    image_placeholder_id: 5,
    pad_token_id_added: 0,
    fm_head_dim: HEAD_WIDTH,
    fm_head_layers: HEAD_BLOCKS,
    vae_name_or_path: 'vae/',
  };
}

function backboneTensors({ hidden, intermediate, layers, heads, kvHeads, headDim }: SyntheticShape): Entry[] {
  const layer = (i: number): Entry[] => {
    const name = (part: string): string => `layers.${i}.${part}`;
    const projection = (part: string, out: number): Entry[] => [
      [name(`self_attn.${part}.weight`), [out, hidden]],
      [name(`self_attn.${part}.bias`), [out]],
    ];
    return [
      [name('input_layernorm.weight'), [hidden]],
      ...projection('q_proj', heads * headDim),
      ...projection('k_proj', kvHeads * headDim),
      ...projection('v_proj', kvHeads * headDim),
      [name('self_attn.o_proj.weight'), [hidden, heads * headDim]],
      [name('post_attention_layernorm.weight'), [hidden]],
      [name('mlp.gate_proj.weight'), [intermediate, hidden]],
      [name('mlp.up_proj.weight'), [intermediate, hidden]],
      [name('mlp.down_proj.weight'), [hidden, intermediate]],
    ];
  };
  return [...Array.from({ length: layers }, (_, i) => layer(i)).flat(), ['norm.weight', [hidden]]];
}

function imageTensors(hidden: number): Entry[] {
  const linear = (name: string, out: number, input: number): Entry[] => [
    [`${name}.weight`, [out, input]],
    [`${name}.bias`, [out]],
  ];
  const w = HEAD_WIDTH;
  const net = 'image_head.net.';
  const blocks = Array.from({ length: HEAD_BLOCKS }, (_, j): Entry[] => [
    [`${net}res_blocks.${j}.in_ln.weight`, [w]],
    [`${net}res_blocks.${j}.in_ln.bias`, [w]],
    ...linear(`${net}res_blocks.${j}.mlp.0`, w, w),
    ...linear(`${net}res_blocks.${j}.mlp.2`, w, w),
    ...linear(`${net}res_blocks.${j}.adaLN_modulation.1`, 3 * w, w),
  ]);
  return [
    ['embed_tokens.weight', [VOCABULARY, hidden]],
    ...linear('image_in_projector', hidden, TOKEN),
    ...linear('image_out_projector', hidden, hidden),
    ...linear(`${net}time_embed.mlp.0`, w, 256),
    ...linear(`${net}time_embed.mlp.2`, w, w),
    ...linear(`${net}cond_embed`, w, hidden),
    ...linear(`${net}input_proj`, w, TOKEN),
    ...blocks.flat(),
    ...linear(`${net}final_layer.adaLN_modulation.1`, 2 * w, w),
    ...linear(`${net}final_layer.linear`, TOKEN, w),
  ];
}

const VAE_CONFIG = {
  resolution: 64, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1], num_res_blocks: 1, z_channels: TOKEN / 4,
  scaling_factor: 1, shift_factor: 0, deterministic: true, encoder_norm: true, psz: 2,
};

/** The smallest autoencoder the loader accepts: one width, one halving. */
function vaeTensors(): Entry[] {
  const c = VAE_CONFIG.ch;
  const z = VAE_CONFIG.z_channels;
  const conv = (name: string, out: number, input: number, kernel = 3): Entry[] => [
    [`${name}.weight`, [out, input, kernel, kernel]],
    [`${name}.bias`, [out]],
  ];
  const norm = (name: string): Entry[] => [
    [`${name}.weight`, [c]],
    [`${name}.bias`, [c]],
  ];
  const res = (name: string): Entry[] => [...norm(`${name}.norm1`), ...conv(`${name}.conv1`, c, c), ...norm(`${name}.norm2`), ...conv(`${name}.conv2`, c, c)];
  const middle = (half: string): Entry[] => [
    ...res(`${half}.mid.block_1`),
    ...norm(`${half}.mid.attn_1.norm`),
    ...['q', 'k', 'v', 'proj_out'].flatMap((part) => conv(`${half}.mid.attn_1.${part}`, c, c, 1)),
    ...res(`${half}.mid.block_2`),
    ...norm(`${half}.norm_out`),
  ];
  const levels = [0, 1];
  return [
    ...conv('encoder.conv_in', c, 3),
    ...levels.flatMap((level) => res(`encoder.down.${level}.block.0`)),
    ...conv('encoder.down.0.downsample.conv', c, c),
    ...middle('encoder'),
    ...conv('encoder.conv_out', 2 * z, c),
    ...conv('decoder.conv_in', c, z),
    ...middle('decoder'),
    ...levels.flatMap((level) => [0, 1].flatMap((block) => res(`decoder.up.${level}.block.${block}`))),
    ...conv('decoder.up.1.upsample.conv', c, c),
    ...conv('decoder.conv_out', 3, c),
  ];
}

function count(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

/** Norm weights near 1, everything else small: hidden states stay finite whatever the depth. */
function writeSafetensors(path: string, entries: readonly Entry[]): void {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const [name, shape] of entries) {
    const bytes = 2 * count(shape);
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([length, padded]));
  const random = xorshift(1);
  for (const [name, shape] of entries) {
    const values = new Uint16Array(count(shape));
    const isNorm = name.includes('norm') && name.endsWith('.weight');
    const columns = shape.length > 1 ? count(shape.slice(1)) : 64;
    const scale = Math.sqrt(3 / columns);
    for (let i = 0; i < values.length; i += 1) values[i] = toBfloat16(isNorm ? 1 : scale * (random() * 2 - 1));
    writeSync(file, new Uint8Array(values.buffer));
  }
  closeSync(file);
}

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

function toBfloat16(value: number): number {
  word[0] = value;
  return bits[0]! >>> 16;
}

/** Uniform in [0, 1). */
export function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
