import type { DecodedImage, DecodeEntry, DecodeResult, RoundRecord, StepPlan, StepResult } from '../../engine/native-types.js';
import { settleDecode } from './commit-plan.js';
import type { Sequence } from './sequence.js';
import { removeSequence, type SchedulerState } from './state.js';

/** What the owner of a sequence gets to see. */
export type SequenceEvent =
  /** Planned for the first time: its waiting is over when the step begins, not when it ends. `underLoad`: by its second spec. */
  | { kind: 'started'; sequence: number; underLoad: boolean }
  /** Tokens up to `emitted` are drawn; `count` of them are new. `speculation`: of a speculating sequence. */
  | { kind: 'tokens'; sequence: number; count: number; emitted: number; total: number; speculation?: SpeculationOutcome }
  /** Grid rows are finished: their tokens [begin, end), (end - begin, D). */
  | { kind: 'rows'; sequence: number; begin: number; end: number; tokens: Float32Array }
  /** The picture as far as `image.tokens` go. */
  | { kind: 'partial'; sequence: number; image: DecodedImage }
  | { kind: 'image'; sequence: number; image: DecodedImage };

/** What drafting came to in one step. */
export interface SpeculationOutcome {
  /** Per new token: it is a draft that was accepted. */
  accepted: boolean[];
  rounds: readonly RoundRecord[];
}

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
    const decoded = result.decode[index];
    const { speculation: speculates } = sequence.spec;
    const count = speculates === undefined ? entry.rounds : countDrawn(sequence, entry, decoded);
    confirmTokens(sequence, count, decoded);
    const speculation = speculates === undefined ? null : { accepted: Array.from(decoded?.accepted ?? [], (flag) => flag === 1), rounds: decoded?.rounds ?? [] };
    if (speculation !== null) settleDecode(state, sequence, count);
    events.push({
      kind: 'tokens',
      sequence: entry.sequence,
      count,
      emitted: sequence.confirmed,
      total: sequence.totalTokens,
      ...(speculation === null ? {} : { speculation }),
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

/** Tokens that the step says it has drawn of a speculating sequence, if that can be. */
function countDrawn(sequence: Sequence, { rounds }: DecodeEntry, decoded: DecodeResult | undefined): number {
  const count = (decoded?.emittedTokens ?? 0) - sequence.confirmed;
  const most = sequence.course.mostDrawn(sequence.confirmed, rounds);
  if (count < 1 || count > most || decoded?.accepted?.length !== count) {
    throw new Error(`expected 1 to ${most} tokens of sequence ${sequence.spec.id} behind ${sequence.confirmed}, the engine answered ${JSON.stringify(decoded)}`);
  }
  return count;
}

/** A cancelled sequence was removed when its flag was set, so one that is still here must have its tokens. */
function confirmTokens(sequence: Sequence, count: number, decoded: DecodeResult | undefined): void {
  const expected = sequence.confirmed + count;
  if (decoded?.sequence !== sequence.spec.id || decoded.cancelled || decoded.emittedTokens !== expected) {
    throw new Error(`expected ${expected} tokens of sequence ${sequence.spec.id}, the engine answered ${JSON.stringify(decoded)}`);
  }
  sequence.confirmed = expected;
}
