import { knownPositions, type Sequence, type SequenceRow } from './sequence.js';
import type { SchedulerState } from './state.js';

/**
 * May the sequence join the batch? Nothing is reserved ahead, but a sequence only enters when its prompt (and, after
 * a preemption, its drawn tokens) fits, together with what the running ones still have to prefill, and leaves
 * each row in the batch the blocks it needs next (course.ts, spare). Without that margin it would be preempted again within a block's length.
 * With nothing running there is nobody to protect, and the sequence was checked to fit alone.
 */
export function fits(state: SchedulerState, sequence: Sequence, promptsInProgress: ReadonlySet<string>): boolean {
  if (state.running.length === 0) return true;
  if (state.running.length >= state.limits.maxRunning) return false;
  const batch = [...state.running, sequence];
  const sharedKeys = new Set<string>();
  let toCome = 0;
  let margin = 0;
  for (const member of batch) {
    for (const row of member.rows) {
      const shared = isShared(state, row, promptsInProgress);
      if (shared && row.shareKey !== null) sharedKeys.add(row.shareKey);
      toCome += blocksToCome(member, row, shared, state.limits.blockTokens);
      margin += member.course.spare(row.promptLength, member.emitted, state.limits.blockTokens);
    }
  }
  const available = state.pool.numFree + state.cache.reclaimableBlocks(sharedKeys);
  return available - toCome >= margin;
}

/** The row has not begun and will attach to a prompt that is cached or being computed. */
function isShared(state: SchedulerState, row: SequenceRow, promptsInProgress: ReadonlySet<string>): boolean {
  if (row.shareKey === null || row.blocks.length > 0) return false;
  return state.cache.has(row.shareKey) || promptsInProgress.has(row.shareKey);
}

/** New blocks until the row has caught up; of a shared prompt, the last and partly filled block is copied. */
function blocksToCome(sequence: Sequence, row: SequenceRow, shared: boolean, blockTokens: number): number {
  const total = Math.ceil(knownPositions(sequence, row) / blockTokens);
  const have = shared ? Math.floor((row.promptLength - 1) / blockTokens) : row.blocks.length;
  return Math.max(0, total - have);
}
