import type { DecodedImage, DecodeResult, StepPlan, StepResult } from '../../engine/native-types.js';
import type { Sequence } from './sequence.js';
import { removeSequence, type SchedulerState } from './state.js';

/** What the owner of a sequence gets to see. */
export type SequenceEvent =
  /** Planned for the first time: its waiting is over when the step begins, not when it ends. */
  | { kind: 'started'; sequence: number }
  /** Tokens up to `emitted` are drawn; `count` of them are new. */
  | { kind: 'tokens'; sequence: number; count: number; emitted: number; total: number }
  /** Grid rows are finished: their tokens [begin, end), (end - begin, D). */
  | { kind: 'rows'; sequence: number; begin: number; end: number; tokens: Float32Array }
  /** The picture as far as `image.tokens` go. */
  | { kind: 'partial'; sequence: number; image: DecodedImage }
  | { kind: 'image'; sequence: number; image: DecodedImage };

/**
 * Checks the engine's answer against what the plan committed, and turns it into events. Results must be applied in
 * the order of their plans. Sequences removed while the step ran are skipped: their blocks are already someone
 * else's business.
 */
export function applyStep(state: SchedulerState, plan: StepPlan, result: StepResult): SequenceEvent[] {
  const events: SequenceEvent[] = [];
  for (const [index, entry] of plan.decode.entries()) {
    const sequence = state.byId.get(entry.sequence);
    if (sequence === undefined) continue;
    confirmTokens(sequence, entry.rounds, result.decode[index]);
    events.push({
      kind: 'tokens',
      sequence: entry.sequence,
      count: entry.rounds,
      emitted: sequence.confirmed,
      total: sequence.totalTokens,
    });
  }
  for (const { sequence, begin, end, data } of result.tokens) {
    if (state.byId.has(sequence)) events.push({ kind: 'rows', sequence, begin, end, tokens: data });
  }
  for (const image of result.images) {
    const sequence = state.byId.get(image.sequence);
    if (sequence === undefined) continue;
    const isWhole = image.tokens === sequence.totalTokens;
    if (isWhole) removeSequence(state, sequence);
    events.push({ kind: isWhole ? 'image' : 'partial', sequence: image.sequence, image });
  }
  return events;
}

/** A cancelled sequence was removed when its flag was set, so one that is still here must have its tokens. */
function confirmTokens(sequence: Sequence, count: number, decoded: DecodeResult | undefined): void {
  const expected = sequence.confirmed + count;
  if (decoded?.sequence !== sequence.spec.id || decoded.cancelled || decoded.emittedTokens !== expected) {
    throw new Error(`expected ${expected} tokens of sequence ${sequence.spec.id}, the engine answered ${JSON.stringify(decoded)}`);
  }
  sequence.confirmed = expected;
}
