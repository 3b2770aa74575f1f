import type { SequenceSpec } from '../../engine/native-types.js';
import type { BlockPool } from './block-pool.js';
import { NO_PREVIEWS, type PreviewPlan } from './previews.js';

/** One guidance row of a sequence: a prompt of its own, the picture's tokens in common with the other rows. */
export interface SequenceRow {
  readonly promptLength: number;
  /** Rows with equal keys have equal prompts and may share KV; null: never shared. */
  readonly shareKey: string | null;
  /** Positions [0, computed) are in the row's blocks. */
  computed: number;
  /** Block i holds positions [i * blockTokens, (i + 1) * blockTokens). */
  blocks: number[];
}

/**
 * One picture on its way through the engine.
 *
 *   waiting ──admit──► running ──last token──► decoding ──VAE planned──► drawn ──image──► (removed)
 *      ▲                  │
 *      └────preempt───────┘
 *
 * Where it speculates, how many tokens a step draws is known only when the step has run. Until then it is `inFlight`: it
 * keeps its place and is planned for nothing.
 */
export interface Sequence {
  spec: SequenceSpec;
  /** How it is drawn instead if it comes into a full batch of a server that runs for throughput; null: always as `spec` says. */
  readonly underLoad: SequenceSpec | null;
  isUnderLoad: boolean;
  /** Order of arrival: the oldest is served first, the youngest preempted first. */
  readonly arrival: number;
  /** L: image tokens of the whole picture. */
  readonly totalTokens: number;
  rows: readonly SequenceRow[];
  readonly previews: PreviewPlan;
  status: 'waiting' | 'running' | 'decoding' | 'drawn';
  /** Image tokens planned so far (of a speculating sequence: drawn); they survive preemption. */
  emitted: number;
  /** Of those, tokens the engine has reported. */
  confirmed: number;
  /** The engine has a decode of it whose outcome is open; of speculating sequences only. */
  inFlight: boolean;
  /** The engine has the spec (and, after a preemption, still the drawn tokens). */
  admitted: boolean;
}

export function createSequence(spec: SequenceSpec, arrival: number, previews: PreviewPlan = NO_PREVIEWS, underLoad: SequenceSpec | null = null): Sequence {
  return {
    spec,
    underLoad,
    isUnderLoad: false,
    arrival,
    totalTokens: spec.gridHeight * spec.gridWidth,
    rows: rowsOf(spec),
    previews,
    status: 'waiting',
    emitted: 0,
    confirmed: 0,
    inFlight: false,
    admitted: false,
  };
}

function rowsOf(spec: SequenceSpec): SequenceRow[] {
  return spec.promptRows.map((ids, index) => ({
    promptLength: ids.length,
    shareKey: shareKeyOf(spec, ids, index),
    computed: 0,
    blocks: [],
  }));
}

function shareKeyOf(spec: SequenceSpec, ids: Int32Array, row: number): string | null {
  // Equal ids mean equal KV only while the ids are all there is: placeholders stand for picture tokens. And of a single
  // token nothing can be shared, as the last one is always computed anew.
  if (spec.inputImageTokens !== undefined || ids.length < 2) return null;
  // The blocks of the row that the draft model reads hold its keys and values as well.
  return row === 0 && spec.speculation !== undefined ? `draft ${ids.join(',')}` : ids.join(',');
}

/** Before its first step: it is drawn as its `underLoad` says. */
export function drawUnderLoad(sequence: Sequence): void {
  if (sequence.underLoad === null || sequence.admitted) throw new Error(`sequence ${sequence.spec.id} cannot be drawn in another way`);
  sequence.spec = sequence.underLoad;
  sequence.rows = rowsOf(sequence.underLoad);
  sequence.isUnderLoad = true;
}

/** Image tokens that one round of a step may draw. */
export function tokensPerRound({ speculation }: SequenceSpec): number {
  return speculation === undefined ? 1 : speculation.maxDraftTokens + 1;
}

/** Backbone rows of one round: all guidance rows see every token that is drafted. */
export function rowsPerRound(spec: SequenceSpec): number {
  return spec.promptRows.length * tokensPerRound(spec);
}

/** Positions whose input is known: the prompt and the drawn tokens. Prefill catches up to here. */
export function knownPositions(sequence: Sequence, row: SequenceRow): number {
  return row.promptLength + sequence.emitted;
}

/** Every row has the hidden state from which the next token is drawn. */
export function isReadyToDecode(sequence: Sequence): boolean {
  return sequence.rows.every((row) => row.computed === knownPositions(sequence, row));
}

/** Image tokens not planned yet. */
export function lackingTokens(sequence: Sequence): number {
  return sequence.totalTokens - sequence.emitted;
}

/**
 * With this many blocks in the pool the sequence can run to its end: all positions of its rows, and one block per
 * row for the step in which a copied block and its original exist side by side.
 */
export function peakBlocks(rowLengths: readonly number[], totalTokens: number, blockTokens: number): number {
  return rowLengths.reduce((sum, length) => sum + Math.ceil((length + totalTokens - 1) / blockTokens) + 1, 0);
}

export function releaseBlocks(sequence: Sequence, pool: BlockPool): void {
  for (const row of sequence.rows) {
    for (const block of row.blocks) pool.release(block);
    row.blocks = [];
    row.computed = 0;
  }
}
