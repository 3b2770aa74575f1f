import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { TextModel } from '../src/model/served-model.js';

/**
 * Floating-point operations of one picture's matrix products, a multiply-add counting as two: what cannot be saved by
 * sharing weights or memory traffic between pictures. Prompt, attention scores and the picture decode (3 to 10 % more)
 * are left out, so shares of a peak that come from it are low rather than high.
 */
export function operationsPerPicture(model: TextModel, guidanceRows: number): number {
  const { manifest } = model;
  const config = JSON.parse(readFileSync(join(manifest.directory, 'config.json'), 'utf8')) as Record<string, number>;
  const { hidden_size: h, intermediate_size: inner, num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: kvHeads } = config as {
    hidden_size: number;
    intermediate_size: number;
    num_hidden_layers: number;
    num_attention_heads: number;
    num_key_value_heads: number;
  };
  const headDim = config['head_dim'] ?? h / heads;
  const width = config['fm_head_dim']!;
  const blocks = config['fm_head_layers']!;
  const token = config['latent_channels']! * config['latent_patch_size']! ** 2;
  const size = manifest.sampling.sizes?.[0];
  if (size === undefined) throw new Error(`${manifest.directory}: sampling.json names no size`);
  const tokens = (size.width / manifest.pixelFactor) * (size.height / manifest.pixelFactor);

  const backbone = layers * (h * (heads + 2 * kvHeads) * headDim + heads * headDim * h + 3 * h * inner);
  // Per timestep: the modulation of all blocks (3 each) and of the last layer (2), then the blocks themselves.
  const timestep = width * width * (3 * blocks + 2) + 2 * width * width * blocks + 2 * token * width;
  const condition = h * h + h * width;
  return 2 * tokens * guidanceRows * (backbone + condition + manifest.sampling.timesteps * timestep);
}

/** The program that measures the processor's multiply-adds (bench/multiply_peak.cpp); a LineProcess. */
export function compilePeakProbe(scratch: string): string {
  const program = join(scratch, 'multiply_peak');
  const source = join(PACKAGE_ROOT, 'bench', 'multiply_peak.cpp');
  execFileSync(process.env['CXX'] ?? 'g++', ['-O3', '-march=native', '-pthread', source, '-o', program]);
  return program;
}
