import type { StepPlan } from '../../engine/native-types.js';
import { duePartials, finishedRows } from './previews.js';
import { releaseBlocks, type Sequence } from './sequence.js';
import type { SchedulerState } from './state.js';

/** Moves the state to where it will be when the plan has run. Plans run in order, so the next one may build on it. */
export function commitPlan(state: SchedulerState, plan: StepPlan): void {
  for (const entry of plan.prefill) commitPrefill(state, entry.sequence, entry.row, entry.end);
  for (const entry of plan.decode) commitDecode(state, state.byId.get(entry.sequence)!, entry.rounds);
  // All that was due is in the plan.
  state.reads = [];
  for (const entry of plan.vae) commitPicture(state, state.byId.get(entry.sequence)!, entry.tokens);
}

function commitPrefill(state: SchedulerState, id: number, rowIndex: number, end: number): void {
  const row = state.byId.get(id)!.rows[rowIndex]!;
  row.computed = end;
  if (row.shareKey === null || end < row.promptLength) return;
  // All but the last prompt token; see PromptCache.
  const positions = row.promptLength - 1;
  state.cache.insert(row.shareKey, row.blocks.slice(0, Math.ceil(positions / state.limits.blockTokens)), positions);
}

function commitPicture(state: SchedulerState, sequence: Sequence, tokens: number): void {
  if (tokens < sequence.totalTokens) {
    state.partials = state.partials.filter((due) => due.sequence !== sequence || due.tokens !== tokens);
    return;
  }
  state.decoding.splice(state.decoding.indexOf(sequence), 1);
  sequence.status = 'drawn';
}

function commitDecode(state: SchedulerState, sequence: Sequence, rounds: number): void {
  if (sequence.spec.speculation === undefined) drewTokens(state, sequence, rounds);
  else sequence.inFlight = true;
}

/** What a step of a speculating sequence came to; its KV beyond these tokens is overwritten by the next one. */
export function settleDecode(state: SchedulerState, sequence: Sequence, tokens: number): void {
  sequence.inFlight = false;
  const read = finishedRows(sequence, tokens);
  if (read !== null) state.reads.push(read);
  drewTokens(state, sequence, tokens);
}

/** The sequence has `tokens` tokens more. It may have lost its blocks since the step that drew them was planned. */
function drewTokens(state: SchedulerState, sequence: Sequence, tokens: number): void {
  const before = sequence.emitted;
  sequence.emitted += tokens;
  state.partials.push(...duePartials(sequence, before));
  if (sequence.emitted < sequence.totalTokens) {
    if (sequence.status === 'running') for (const row of sequence.rows) row.computed += sequence.course.computedBy(tokens);
    return;
  }
  // The last token is not appended. The picture needs its tokens only, so the blocks are free from here on.
  if (sequence.status === 'running') state.running.splice(state.running.indexOf(sequence), 1);
  else state.waiting.remove(sequence);
  releaseBlocks(sequence, state.pool);
  sequence.status = 'decoding';
  state.decoding.push(sequence);
}
