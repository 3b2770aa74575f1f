import type { DecodedImage, StepPlan, StepResult } from '../../engine/native-types.js';
import { releaseBlocks, type Sequence } from './sequence.js';
import { removeSequence, type SchedulerState } from './state.js';

/** What the owner of a sequence gets to see. */
export type SequenceEvent =
  /** Planned for the first time: its waiting is over when the step begins, not when it ends. */
  | { kind: 'started'; sequence: number }
  | { kind: 'token'; sequence: number; emitted: number; total: number }
  | { kind: 'image'; sequence: number; image: DecodedImage };

/**
 * Takes the engine's answer into the state. Sequences removed while the step ran are skipped: their blocks are
 * already someone else's business.
 */
export function applyStep(state: SchedulerState, plan: StepPlan, result: StepResult): SequenceEvent[] {
  const events: SequenceEvent[] = [];
  applyPrefills(state, plan);
  applyDecodes(state, plan, result, events);
  for (const image of result.images) {
    const sequence = state.byId.get(image.sequence);
    if (sequence === undefined) continue;
    removeSequence(state, sequence);
    events.push({ kind: 'image', sequence: image.sequence, image });
  }
  return events;
}

function applyPrefills(state: SchedulerState, plan: StepPlan): void {
  for (const entry of plan.prefill) {
    const sequence = state.byId.get(entry.sequence);
    const row = sequence?.rows[entry.row];
    if (row === undefined) continue;
    row.computed = entry.end;
    if (row.shareKey === null || row.computed < row.promptLength) continue;
    // All but the last prompt token; see PromptCache.
    const positions = row.promptLength - 1;
    state.cache.insert(row.shareKey, row.blocks.slice(0, Math.ceil(positions / state.limits.blockTokens)), positions);
  }
}

function applyDecodes(state: SchedulerState, plan: StepPlan, result: StepResult, events: SequenceEvent[]): void {
  for (const [index, entry] of plan.decode.entries()) {
    const sequence = state.byId.get(entry.sequence);
    const decoded = result.decode[index];
    if (decoded?.sequence !== entry.sequence) {
      throw new Error(`the engine answered decode ${index} for sequence ${decoded?.sequence}, planned was ${entry.sequence}`);
    }
    // Cancelled ones were removed when their flag was set, and wait in `releases`.
    if (sequence === undefined || decoded.cancelled) continue;
    if (decoded.emittedTokens !== sequence.emitted + 1) {
      throw new Error(`sequence ${entry.sequence} has ${decoded.emittedTokens} tokens after a step, expected ${sequence.emitted + 1}`);
    }
    emitToken(state, sequence);
    events.push({ kind: 'token', sequence: entry.sequence, emitted: sequence.emitted, total: sequence.totalTokens });
  }
}

function emitToken(state: SchedulerState, sequence: Sequence): void {
  sequence.emitted += 1;
  if (sequence.emitted < sequence.totalTokens) {
    for (const row of sequence.rows) row.computed += 1;
    return;
  }
  // The last token is not appended. The picture needs its tokens only, so the blocks are free from here on.
  state.running.splice(state.running.indexOf(sequence), 1);
  releaseBlocks(sequence, state.pool);
  sequence.status = 'decoding';
  state.decoding.push(sequence);
}
