import type { DecodeEntry, PrefillEntry, StepPlan } from '../../engine/native-types.js';
import { fits } from './admit.js';
import { commitPlan } from './commit-plan.js';
import { planPictures, planRead } from './previews.js';
import { makeWritable, settleCopies, type RowWrite } from './room.js';
import { isReadyToDecode, knownPositions, lackingTokens, type Sequence, type SequenceRow } from './sequence.js';
import { preempt, type SchedulerState } from './state.js';

/**
 * What the engine does next. There are no phases: every running sequence has known inputs (prompt, then drawn
 * tokens) and computed positions; it prefills until the two are equal and then decodes one token per step. Fresh
 * prompts, shared prompts and recomputation after a preemption are the same catching up from another start.
 *
 * Sequences are visited by arrival and room is taken from the youngest, so a sequence is never taken from after
 * it has been planned.
 *
 * What a plan does is known before it runs (a decode draws the tokens it says), so the state is moved on at once and
 * the next plan can be made while this one runs. The engine's answer brings pictures and is checked (apply-step.ts).
 *
 * `burst`: tokens a sequence may draw in this step. More than one only while nobody else would have to wait for it:
 * with a sequence waiting or prefilling, everyone draws one.
 */
export function schedule(state: SchedulerState, burst = 1): StepPlan {
  const draft: Draft = {
    prefill: [],
    decode: [],
    admit: [],
    copies: [],
    // Decodes of the running batch come first: a long prompt may fill a step, but not delay the others' tokens.
    prefillBudget: state.limits.maxStepTokens - decodeRows(state),
    promptsInProgress: promptsInProgress(state),
    burst: state.waiting.size === 0 && state.running.every(isReadyToDecode) ? burst : 1,
  };
  for (const sequence of [...state.running]) {
    if (sequence.status === 'running') planSequence(state, sequence, draft);
  }
  admitWaiting(state, draft);
  settleCopies(state, draft.copies);
  const release = state.releases;
  state.releases = [];
  const decodes = draft.decode.map((sequence) => ({ sequence, entry: decodeEntry(sequence, draft.burst) }));
  const plan: StepPlan = {
    release,
    admit: draft.admit.map((sequence) => sequence.spec),
    copies: Uint32Array.from(draft.copies),
    prefill: draft.prefill,
    decode: decodes.map(({ entry }) => entry),
    vae: planPictures(state),
    read: decodes.map(({ sequence, entry }) => planRead(sequence, entry)).filter((entry) => entry !== null),
  };
  commitPlan(state, plan);
  return plan;
}

function decodeEntry(sequence: Sequence, burst: number): DecodeEntry {
  return {
    sequence: sequence.spec.id,
    blockTables: sequence.rows.map((row) => Uint32Array.from(row.blocks)),
    rounds: Math.min(burst, lackingTokens(sequence)),
  };
}

/** True when there is nothing to run: the loop may sleep. */
export function isEmptyPlan(plan: StepPlan): boolean {
  return [plan.release, plan.admit, plan.prefill, plan.decode, plan.vae].every((entries) => entries.length === 0);
}

/** The plan while it grows. */
interface Draft {
  prefill: PrefillEntry[];
  decode: Sequence[];
  admit: Sequence[];
  copies: number[];
  /** Backbone rows left for prefill in this step. */
  prefillBudget: number;
  /** Share keys of prompts that some row is computing; equal rows wait and attach to the result. */
  promptsInProgress: Set<string>;
  /** Tokens a decode entry draws at most. */
  burst: number;
}

function planSequence(state: SchedulerState, sequence: Sequence, draft: Draft): void {
  if (isReadyToDecode(sequence)) planDecode(state, sequence, draft);
  else planPrefill(state, sequence, draft);
}

function planDecode(state: SchedulerState, sequence: Sequence, draft: Draft): void {
  // The last token of a picture is not appended, so it needs no KV.
  const appended = Math.min(draft.burst, lackingTokens(sequence) - 1);
  const writes: RowWrite[] = sequence.rows.map((row) => ({ row, begin: row.computed, end: row.computed + appended }));
  if (makeWritable(state, sequence, writes, draft.copies)) draft.decode.push(sequence);
  else preempt(state, sequence);
}

function planPrefill(state: SchedulerState, sequence: Sequence, draft: Draft): void {
  const writes: RowWrite[] = [];
  for (const row of sequence.rows) {
    if (row.blocks.length === 0 && !startRow(state, row, draft)) continue;
    const begin = row.computed;
    const end = Math.min(knownPositions(sequence, row), begin + draft.prefillBudget);
    if (end <= begin) continue;
    draft.prefillBudget -= end - begin;
    writes.push({ row, begin, end });
  }
  if (!makeWritable(state, sequence, writes, draft.copies)) {
    preempt(state, sequence);
    return;
  }
  for (const { row, begin, end } of writes) {
    const blockTable = Uint32Array.from(row.blocks);
    draft.prefill.push({ sequence: sequence.spec.id, row: sequence.rows.indexOf(row), begin, end, blockTable });
  }
}

/** Where a row begins: after a cached prompt, not yet (somebody is computing it), or at position 0. */
function startRow(state: SchedulerState, row: SequenceRow, draft: Draft): boolean {
  if (row.shareKey === null) return true;
  if (draft.promptsInProgress.has(row.shareKey) && !state.cache.has(row.shareKey)) return false;
  if (draft.prefillBudget < 1) return false;
  const cached = state.cache.attach(row.shareKey, row.promptLength);
  if (cached !== null) {
    row.blocks = cached.blocks;
    row.computed = cached.positions;
  } else {
    draft.promptsInProgress.add(row.shareKey);
  }
  return true;
}

function admitWaiting(state: SchedulerState, draft: Draft): void {
  for (;;) {
    const sequence = state.waiting.peek();
    if (sequence === undefined || draft.prefillBudget < 1 || !fits(state, sequence, draft.promptsInProgress)) return;
    state.waiting.shift();
    sequence.status = 'running';
    // Room is only ever taken from the youngest, so whoever waits is younger than all who run: order is kept.
    state.running.push(sequence);
    planSequence(state, sequence, draft);
    // Out of room although it was counted: it went back to waiting and the next step tries again.
    if (state.waiting.peek() === sequence) return;
    if (!sequence.admitted) {
      sequence.admitted = true;
      draft.admit.push(sequence);
    }
  }
}

function decodeRows(state: SchedulerState): number {
  return state.running.reduce((sum, sequence) => sum + (isReadyToDecode(sequence) ? sequence.rows.length : 0), 0);
}

function promptsInProgress(state: SchedulerState): Set<string> {
  const keys = new Set<string>();
  for (const sequence of state.running) {
    for (const row of sequence.rows) {
      if (row.shareKey !== null && row.computed > 0 && row.computed < row.promptLength) keys.add(row.shareKey);
    }
  }
  return keys;
}
