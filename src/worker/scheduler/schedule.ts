import type { DecodeEntry, PrefillEntry, StepPlan } from '../../engine/native-types.js';
import { fits } from './admit.js';
import { commitPlan } from './commit-plan.js';
import { finishedRows, planPictures } from './previews.js';
import { hasRoom, makeWritable, settleCopies, type RowWrite } from './room.js';
import { drawUnderLoad, isReadyToDecode, knownPositions, type Sequence, type SequenceRow } from './sequence.js';
import { preempt, type SchedulerState } from './state.js';

/**
 * What the engine does next. There are no phases: every running sequence has known inputs (prompt, then drawn
 * tokens) and computed positions; it prefills until the two are equal and then decodes one token per step (course.ts: or some
 * timesteps of a pass, after which there is more to prefill). Fresh
 * prompts, shared prompts and recomputation after a preemption are the same catching up from another start.
 *
 * Sequences are visited by arrival and room is taken from the youngest, so a sequence is never taken from after
 * it has been planned.
 *
 * What a plan does is known before it runs (a decode draws the tokens it says), so the state is moved on at once and
 * the next plan can be made while this one runs. The engine's answer brings pictures and is checked (apply-step.ts).
 * Speculating sequences are the exception: what they have drawn is in the answer, so they sit out the plans made
 * meanwhile, and room is reserved for all they may draw. All of them decode in the same steps: one that becomes ready
 * while others are in flight waits for them, or there would be two half batches from then on, in turns.
 *
 * `burst`: rounds a sequence may run in this step, each of one token or one attempt at several. More than one only while
 * nobody else would have to wait for it: with a sequence waiting or prefilling, everyone runs one.
 */
export function schedule(state: SchedulerState, burst = 1): StepPlan {
  const isOpen = state.running.some(({ inFlight }) => inFlight);
  const draft: Draft = {
    prefill: [],
    decode: [],
    admit: [],
    copies: [],
    // Decodes of the running batch come first: a long prompt may fill a step, but not delay the others' tokens.
    prefillBudget: state.limits.maxStepTokens - decodeRows(state, isOpen),
    promptsInProgress: promptsInProgress(state),
    burst: state.waiting.size === 0 && state.running.every(isReadyToDecode) ? burst : 1,
    isOpen,
  };
  for (const sequence of [...state.running]) {
    if (sequence.status === 'running') planSequence(state, sequence, draft);
  }
  admitWaiting(state, draft);
  settleCopies(state, draft.copies);
  const release = state.releases;
  state.releases = [];
  const plan: StepPlan = {
    release,
    admit: draft.admit.map((sequence) => sequence.spec),
    copies: Uint32Array.from(draft.copies),
    prefill: draft.prefill,
    decode: draft.decode.map(decodeEntry),
    vae: planPictures(state),
    read: [...state.reads, ...draft.decode.flatMap(({ sequence, rounds }) => (sequence.spec.speculation === undefined ? finishedRows(sequence, rounds) ?? [] : []))],
  };
  commitPlan(state, plan);
  return plan;
}

function decodeEntry({ sequence, rounds }: PlannedDecode): DecodeEntry {
  return { sequence: sequence.spec.id, blockTables: sequence.rows.map((row) => Uint32Array.from(row.blocks)), rounds };
}

/** True when there is nothing to run: the loop may sleep. */
export function isEmptyPlan(plan: StepPlan): boolean {
  return [plan.release, plan.admit, plan.prefill, plan.decode, plan.vae, plan.read].every((entries) => entries.length === 0);
}

interface PlannedDecode {
  sequence: Sequence;
  rounds: number;
}

/** The plan while it grows. */
interface Draft {
  prefill: PrefillEntry[];
  decode: PlannedDecode[];
  admit: Sequence[];
  copies: number[];
  /** Backbone rows left for prefill in this step. */
  prefillBudget: number;
  /** Share keys of prompts that some row is computing; equal rows wait and attach to the result. */
  promptsInProgress: Set<string>;
  /** Rounds of a decode entry at most. */
  burst: number;
  /** A step of speculating sequences is in flight. */
  isOpen: boolean;
}

function planSequence(state: SchedulerState, sequence: Sequence, draft: Draft): void {
  if (sequence.inFlight) return;
  if (!isReadyToDecode(sequence)) planPrefill(state, sequence, draft);
  else if (mayDecode(sequence, draft.isOpen)) planDecode(state, sequence, draft);
}

function mayDecode({ spec, inFlight }: Sequence, isOpen: boolean): boolean {
  return !inFlight && (spec.speculation === undefined || !isOpen);
}

function planDecode(state: SchedulerState, sequence: Sequence, draft: Draft): void {
  const most = sequence.course.rounds(sequence.emitted, draft.burst);
  // Room for drafts may never be used: it is not worth another sequence's blocks.
  const rounds = sequence.spec.speculation === undefined || hasRoom(state, decodeWrites(sequence, most)) ? most : 1;
  if (makeWritable(state, sequence, decodeWrites(sequence, rounds), draft.copies)) draft.decode.push({ sequence, rounds });
  else preempt(state, sequence);
}

/** All positions that the rounds may append. */
function decodeWrites(sequence: Sequence, rounds: number): RowWrite[] {
  const appended = sequence.course.appended(sequence.emitted, rounds);
  return sequence.rows.map((row) => ({ row, begin: row.computed, end: row.computed + appended }));
}

function planPrefill(state: SchedulerState, sequence: Sequence, draft: Draft): void {
  const writes: RowWrite[] = [];
  for (const row of sequence.rows) {
    if (row.blocks.length === 0 && !startRow(state, row, draft)) continue;
    const begin = row.computed;
    const end = sequence.course.prefillEnd(begin, knownPositions(sequence, row), draft.prefillBudget);
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
    // One that was preempted with a step in flight: what it has drawn, and may have to recompute, is not known yet.
    if (sequence === undefined || sequence.inFlight || draft.prefillBudget < 1) return;
    if (isCrowded(state) && sequence.underLoad !== null && !sequence.admitted && !sequence.isUnderLoad) drawUnderLoad(sequence);
    if (!fits(state, sequence, draft.promptsInProgress)) return;
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

function isCrowded({ running, limits }: SchedulerState): boolean {
  return running.length >= (limits.crowdedFrom ?? Infinity);
}

function decodeRows(state: SchedulerState, isOpen: boolean): number {
  const decoding = state.running.filter((sequence) => mayDecode(sequence, isOpen) && isReadyToDecode(sequence));
  return decoding.reduce((sum, { course }) => sum + course.rowsPerRound, 0);
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
