import type { StepPlan } from '../../engine/native-types.js';
import { releaseBlocks, type Sequence } from './sequence.js';
import type { SchedulerState } from './state.js';

/** Moves the state to where it will be when the plan has run. Plans run in order, so the next one may build on it. */
export function commitPlan(state: SchedulerState, plan: StepPlan): void {
  for (const entry of plan.prefill) commitPrefill(state, entry.sequence, entry.row, entry.end);
  for (const entry of plan.decode) commitDecode(state, state.byId.get(entry.sequence)!, entry.tokens);
  for (const { sequence } of plan.vae) {
    const drawn = state.byId.get(sequence)!;
    state.decoding.splice(state.decoding.indexOf(drawn), 1);
    drawn.status = 'drawn';
  }
}

function commitPrefill(state: SchedulerState, id: number, rowIndex: number, end: number): void {
  const row = state.byId.get(id)!.rows[rowIndex]!;
  row.computed = end;
  if (row.shareKey === null || end < row.promptLength) return;
  // All but the last prompt token; see PromptCache.
  const positions = row.promptLength - 1;
  state.cache.insert(row.shareKey, row.blocks.slice(0, Math.ceil(positions / state.limits.blockTokens)), positions);
}

function commitDecode(state: SchedulerState, sequence: Sequence, tokens: number): void {
  sequence.emitted += tokens;
  if (sequence.emitted < sequence.totalTokens) {
    for (const row of sequence.rows) row.computed += tokens;
    return;
  }
  // The last token is not appended. The picture needs its tokens only, so the blocks are free from here on.
  state.running.splice(state.running.indexOf(sequence), 1);
  releaseBlocks(sequence, state.pool);
  sequence.status = 'decoding';
  state.decoding.push(sequence);
}
