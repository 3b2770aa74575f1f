import type { ClassInfo, ReadEntry, SequenceSpec } from '../../engine/native-types.js';
import { BlockPool } from './block-pool.js';
import { courseOf } from './course.js';
import { NO_PREVIEWS, type PreviewPlan } from './preview-plan.js';
import { PromptCache } from './prompt-cache.js';
import { createSequence, releaseBlocks, type Sequence } from './sequence.js';
import { WaitingQueue } from './waiting-queue.js';

export interface SchedulerLimits {
  /** KV blocks in the pool. */
  numBlocks: number;
  /** Positions of one block. */
  blockTokens: number;
  /** Backbone rows of one step, over decodes and prefills. */
  maxStepTokens: number;
  /** Sequences in the batch at once. */
  maxRunning: number;
  /**
   * From so many running sequences on, those that come in are drawn as their `underLoad` says; absent: never. It trades
   * away the promise that bytes do not depend on the load.
   */
  crowdedFrom?: number;
  /** Pictures decoded in one step, partial ones included; a burst of them must not stall those still drawing. */
  maxVaePerStep: number;
  /** Of a model whose pictures are asked for by class; absent: it draws token by token. */
  classes?: ClassInfo;
}

/** A partial picture whose tokens are planned and whose decode is not. */
export interface DuePartial {
  readonly sequence: Sequence;
  readonly tokens: number;
}

/** Everything the scheduler knows, as it will be when all plans made so far have run. */
export interface SchedulerState {
  readonly limits: SchedulerLimits;
  readonly pool: BlockPool;
  readonly cache: PromptCache;
  readonly waiting: WaitingQueue;
  /** Ordered by arrival. */
  readonly running: Sequence[];
  /** All tokens drawn, picture not yet decoded; they hold no blocks. Ordered by completion. */
  readonly decoding: Sequence[];
  /** Partial pictures not yet decoded, in the order they came due; their sequences may stand anywhere. */
  partials: DuePartial[];
  /** Finished rows of speculating sequences, to be read with the next step: which those were is known only behind it. */
  reads: ReadEntry[];
  readonly byId: Map<number, Sequence>;
  /** Ids the engine may forget in the next step. */
  releases: number[];
  nextArrival: number;
  numPreemptions: number;
}

export function createSchedulerState(limits: SchedulerLimits): SchedulerState {
  const MAX_ROWS = 3;
  if (limits.maxStepTokens < limits.maxRunning * MAX_ROWS) {
    throw new RangeError(
      `maxStepTokens ${limits.maxStepTokens} cannot hold ${limits.maxRunning} running sequences of up to ${MAX_ROWS} rows`,
    );
  }
  const pool = new BlockPool(limits.numBlocks);
  return {
    limits,
    pool,
    cache: new PromptCache(pool),
    waiting: new WaitingQueue(),
    running: [],
    decoding: [],
    partials: [],
    reads: [],
    byId: new Map(),
    releases: [],
    nextArrival: 0,
    numPreemptions: 0,
  };
}

/** Blocks the picture needs; above `limits.numBlocks` it could never finish. */
export function blocksOf(spec: SequenceSpec, limits: SchedulerLimits): number {
  return courseOf(spec, limits.classes ?? null).peakBlocks(limits.blockTokens);
}

export function addSequence(state: SchedulerState, spec: SequenceSpec, previews: PreviewPlan = NO_PREVIEWS, underLoad: SequenceSpec | null = null): Sequence {
  if (state.byId.has(spec.id)) throw new Error(`sequence ${spec.id} is already live`);
  for (const way of underLoad === null ? [spec] : [spec, underLoad]) checkFits(way, state.limits);
  const sequence = createSequence(spec, state.nextArrival, previews, underLoad, state.limits.classes ?? null);
  state.nextArrival += 1;
  state.byId.set(spec.id, sequence);
  state.waiting.push(sequence);
  return sequence;
}

/** Alone, and in a step of a full batch, whatever the others are. */
function checkFits(spec: SequenceSpec, limits: SchedulerLimits): void {
  const needed = blocksOf(spec, limits);
  if (needed > limits.numBlocks) throw new RangeError(`sequence ${spec.id} needs ${needed} blocks, the pool has ${limits.numBlocks}`);
  const { rowsPerRound: rows, startLengths, prefillEnd } = courseOf(spec, limits.classes ?? null);
  const start = startLengths[0] ?? 0;
  if (prefillEnd(0, start, limits.maxStepTokens) === 0) throw new RangeError(`sequence ${spec.id} needs ${start} backbone rows to begin, a step has ${limits.maxStepTokens}`);
  const share = Math.floor(limits.maxStepTokens / limits.maxRunning);
  if (rows > share) throw new RangeError(`sequence ${spec.id} needs ${rows} backbone rows a step, its share is ${share}`);
}

/**
 * Takes a sequence out, wherever it stands: finished, cancelled or failed. Its blocks are free at once, also while
 * steps that write them are in flight: they are handed out by the next plan, which the engine runs after those.
 */
export function removeSequence(state: SchedulerState, sequence: Sequence): void {
  if (!state.byId.delete(sequence.spec.id)) return;
  switch (sequence.status) {
    case 'waiting':
      state.waiting.remove(sequence);
      break;
    case 'running':
      state.running.splice(state.running.indexOf(sequence), 1);
      break;
    case 'decoding':
      state.decoding.splice(state.decoding.indexOf(sequence), 1);
      break;
    case 'drawn':
      break;
  }
  state.partials = state.partials.filter((due) => due.sequence !== sequence);
  state.reads = state.reads.filter((due) => due.sequence !== sequence.spec.id);
  releaseBlocks(sequence, state.pool);
  if (sequence.admitted) state.releases.push(sequence.spec.id);
}

/** Back to waiting with its drawn tokens, those of a step in flight included; it will prefill prompt and tokens again, to the same bytes. */
export function preempt(state: SchedulerState, sequence: Sequence): void {
  state.running.splice(state.running.indexOf(sequence), 1);
  releaseBlocks(sequence, state.pool);
  sequence.status = 'waiting';
  state.waiting.push(sequence);
  state.numPreemptions += 1;
}

export function hasWork(state: SchedulerState): boolean {
  return state.byId.size > 0 || state.releases.length > 0;
}
