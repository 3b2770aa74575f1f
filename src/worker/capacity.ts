import type { ClassInfo, Rehearsal } from '../engine/native-types.js';
import type { KvMemory } from '../jobs/ipc.js';
import type { JobRequest } from '../jobs/job.js';
import type { ModelManifest } from '../model/manifest.js';
import { gridOf } from '../model/sizes.js';
import { peakBlocks } from './scheduler/course.js';

/** Positions of one KV block; decided for NextStep in the contract and checked against the loaded model. */
export const KV_BLOCK_TOKENS = 16;

/** A prompt of this many tokens is what a picture's share of the pool is counted with; most are far shorter. */
const TYPICAL_PROMPT_TOKENS = 64;

/** Conditional and unconditional. */
const TYPICAL_ROWS = 2;

/** Blocks for `sequences` pictures of the native size at once. */
export function kvBlocksFor(manifest: ModelManifest, sequences: number): number {
  const grid = gridOf(manifest.sizes[0], manifest.pixelFactor);
  if (grid === null) throw new Error('the native size is no multiple of the token size');
  const positions = TYPICAL_PROMPT_TOKENS + grid.height * grid.width;
  return sequences * TYPICAL_ROWS * Math.ceil(positions / KV_BLOCK_TOKENS);
}

/** Backbone rows of one step: a full batch of three-row decodes, or of what drafting takes, and room for prompts beside it. */
export function maxStepTokensFor(maxBatch: number, draftingRows = 0): number {
  const PREFILL_TOKENS = 256;
  return Math.max(3, draftingRows) * maxBatch + PREFILL_TOKENS;
}

/** Transformer rows of one step of a model that draws in passes, whatever the model: what the engine is asked to take. */
export const MAX_TRANSFORMER_ROWS = 65_536;

/** Likewise, of this model: four pictures computed anew from the start, more of those that are only a pass further. */
export function maxStepTokensOfPasses({ classTokens, passTokens, numPasses }: ClassInfo, maxBatch: number): number {
  const PICTURES = 4;
  return Math.max(3 * maxBatch, PICTURES * TYPICAL_ROWS * (classTokens + numPasses * passTokens));
}

/** The widest step: a full batch, and a picture of the largest size. */
export function rehearsalOf({ sizes, pixelFactor, sampling }: ModelManifest, maxBatch: number): Rehearsal {
  const grids = sizes.flatMap((size) => gridOf(size, pixelFactor) ?? []);
  const largest = grids.reduce((most, grid) => (grid.height * grid.width > most.height * most.width ? grid : most));
  return { pictures: maxBatch, gridHeight: largest.height, gridWidth: largest.width, timesteps: sampling.timesteps };
}

/** With `throughput`: from so many running pictures on, a new one is drawn without drafts. Below, drafts fill what would stand idle. */
export const CROWDED_FROM = 4;

/** What one picture of the request needs at its end, against what there is. */
export function capacityOf(kv: KvMemory, request: JobRequest): { neededBlocks: number; totalBlocks: number } {
  // All pictures of a model that draws in passes are equal, and its pool is made for several of them.
  if (request.prompt === 'class') return { neededBlocks: 1, totalBlocks: kv.totalBlocks };
  const { promptRows, gridHeight, gridWidth } = request;
  const lengths = promptRows.map((row) => row.length);
  return { neededBlocks: peakBlocks(lengths, gridHeight * gridWidth, kv.blockTokens), totalBlocks: kv.totalBlocks };
}
