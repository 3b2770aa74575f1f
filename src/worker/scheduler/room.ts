import type { Sequence, SequenceRow } from './sequence.js';
import { preempt, type SchedulerState } from './state.js';

/** A write of positions [begin, end) of one row. */
export interface RowWrite {
  row: SequenceRow;
  begin: number;
  end: number;
}

/**
 * Makes every block of the writes the row's own, appending (source, destination) pairs to `copies`. Room comes
 * first from cached prompts nobody uses, then from the youngest sequence. Returns false, with nothing changed for
 * these rows, when the youngest is the sequence itself: it should give up its own blocks.
 *
 * The source of a copy stays referenced until `settleCopies`: freed at once, it could become the destination of
 * another copy of the same plan.
 */
export function makeWritable(state: SchedulerState, sequence: Sequence, writes: readonly RowWrite[], copies: number[]): boolean {
  // Evicting may turn a shared block into an own one, so the need is counted again each round.
  while (countNewBlocks(state, writes) > state.pool.numFree) {
    if (state.cache.evictReclaimable()) continue;
    const youngest = state.running.at(-1);
    if (youngest !== undefined && youngest !== sequence) preempt(state, youngest);
    else if (state.running.length > 1) return false;
    // Alone, and every block left is its own or shared with the cache: then the cache lets go of prompts in use.
    else if (!state.cache.evictOldest()) throw new Error(`sequence ${sequence.spec.id} does not fit into an empty pool`);
  }
  for (const write of writes) takeBlocks(state, write, copies);
  return true;
}

/** The writes need no block of another sequence. */
export function hasRoom(state: SchedulerState, writes: readonly RowWrite[]): boolean {
  return countNewBlocks(state, writes) <= state.pool.numFree + state.cache.reclaimableBlocks();
}

function countNewBlocks(state: SchedulerState, writes: readonly RowWrite[]): number {
  let needed = 0;
  for (const { row, begin, end } of writes) {
    for (const index of blockRange(begin, end, state.limits.blockTokens)) {
      const block = row.blocks[index];
      if (block === undefined || state.pool.isShared(block)) needed += 1;
    }
  }
  return needed;
}

function takeBlocks(state: SchedulerState, { row, begin, end }: RowWrite, copies: number[]): void {
  for (const index of blockRange(begin, end, state.limits.blockTokens)) {
    const block = row.blocks[index];
    if (block === undefined) {
      row.blocks.push(state.pool.allocate());
    } else if (state.pool.isShared(block)) {
      const own = state.pool.allocate();
      copies.push(block, own);
      row.blocks[index] = own;
    }
  }
}

/** Drops the references that rows had to the blocks they were copied from; called when the plan is complete. */
export function settleCopies(state: SchedulerState, copies: readonly number[]): void {
  for (let i = 0; i < copies.length; i += 2) state.pool.release(copies[i]!);
}

/** Indices of the blocks that positions [begin, end) touch. */
function* blockRange(begin: number, end: number, blockTokens: number): Generator<number> {
  for (let index = Math.floor(begin / blockTokens); index * blockTokens < end; index += 1) yield index;
}
