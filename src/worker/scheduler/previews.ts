import type { ReadEntry, VaeEntry } from '../../engine/native-types.js';
import type { Sequence } from './sequence.js';
import type { DuePartial, SchedulerState } from './state.js';

/**
 * Partial i of k stands after ceil(h * i / (k + 1)) rows of h. A grid of less than k + 1 rows has fewer stages than
 * asked for; a picture that shows no more than the one before it, or all there is, is left out.
 */
export function partialTokenCounts(gridHeight: number, gridWidth: number, count: number): number[] {
  const rows = Array.from({ length: count }, (_, i) => Math.ceil((gridHeight * (i + 1)) / (count + 1)));
  return [...new Set(rows)].filter((row) => row < gridHeight).map((row) => row * gridWidth);
}

/** Of a model that draws in passes: what the first `count` passes but the last end with. */
export function partialTimestepCounts(passes: number, timesteps: number, count: number): number[] {
  return Array.from({ length: Math.min(count, passes - 1) }, (_, i) => (i + 1) * timesteps);
}

/** The partial pictures that drawing [before, sequence.emitted) has made due. */
export function duePartials(sequence: Sequence, before: number): DuePartial[] {
  const reached = sequence.previews.partials.filter((tokens) => tokens > before && tokens <= sequence.emitted);
  return reached.map((tokens) => ({ sequence, tokens }));
}

/**
 * The picture decodes of a step. Finished pictures first, in the order of completion, each behind partials of its own
 * that still wait; then partials of pictures being drawn, in the order they came due. A decode names the number of its
 * tokens, so no sequence waits for its own preview: it draws on while the decode is in the queue.
 */
export function planPictures(state: SchedulerState): VaeEntry[] {
  const isComplete = new Set(state.decoding);
  const entries: VaeEntry[] = [];
  const push = (sequence: Sequence, tokens: number): void => {
    entries.push({ sequence: sequence.spec.id, tokens });
  };
  for (const sequence of state.decoding) {
    for (const due of state.partials) if (due.sequence === sequence) push(sequence, due.tokens);
    push(sequence, sequence.totalTokens);
  }
  for (const due of state.partials) if (!isComplete.has(due.sequence)) push(due.sequence, due.tokens);
  return entries.slice(0, state.limits.maxVaePerStep);
}

/**
 * The grid rows that the next `tokens` tokens finish, whole: also their tokens of earlier steps, which the engine keeps.
 * So nothing is remembered here, and a row is read once whatever happened in between.
 */
export function finishedRows(sequence: Sequence, tokens: number): ReadEntry | null {
  if (!sequence.previews.rows) return null;
  const { gridWidth, id } = sequence.spec;
  const begin = sequence.emitted - (sequence.emitted % gridWidth);
  const after = sequence.emitted + tokens;
  const end = after - (after % gridWidth);
  return end > begin ? { sequence: id, begin, end } : null;
}
