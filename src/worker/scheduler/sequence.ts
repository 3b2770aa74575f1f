import type { ClassInfo, SequenceSpec } from '../../engine/native-types.js';
import type { BlockPool } from './block-pool.js';
import { courseOf, type Course } from './course.js';
import { NO_PREVIEWS, type PreviewPlan } from './preview-plan.js';

/** One guidance row of a sequence: a prompt (or class) of its own, what is drawn in common with the other rows. */
export interface SequenceRow {
  /** Positions known before anything is drawn. */
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
  course: Course;
  /** Units of the whole picture, image tokens or timesteps: what the course counts. The same however it is drawn. */
  readonly totalTokens: number;
  rows: readonly SequenceRow[];
  readonly previews: PreviewPlan;
  status: 'waiting' | 'running' | 'decoding' | 'drawn';
  /** Units planned so far (of a speculating sequence: drawn); they survive preemption. */
  emitted: number;
  /** Of those, units the engine has reported. */
  confirmed: number;
  /** The engine has a decode of it whose outcome is open; of speculating sequences only. */
  inFlight: boolean;
  /** The engine has the spec (and, after a preemption, still the drawn tokens). */
  admitted: boolean;
}

export function createSequence(
  spec: SequenceSpec,
  arrival: number,
  previews: PreviewPlan = NO_PREVIEWS,
  underLoad: SequenceSpec | null = null,
  classes: ClassInfo | null = null,
): Sequence {
  const course = courseOf(spec, classes);
  return {
    spec,
    underLoad,
    isUnderLoad: false,
    arrival,
    course,
    totalTokens: course.total,
    rows: rowsOf(spec, course),
    previews,
    status: 'waiting',
    emitted: 0,
    confirmed: 0,
    inFlight: false,
    admitted: false,
  };
}

function rowsOf(spec: SequenceSpec, { startLengths }: Course): SequenceRow[] {
  return startLengths.map((promptLength, index) => ({
    promptLength,
    shareKey: shareKeyOf(spec, spec.promptRows[index], index),
    computed: 0,
    blocks: [],
  }));
}

function shareKeyOf(spec: SequenceSpec, ids: Int32Array | undefined, row: number): string | null {
  // Rows of a class are computed in a fraction of what one timestep takes.
  if (ids === undefined) return null;
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
  sequence.course = courseOf(sequence.underLoad, null);
  sequence.rows = rowsOf(sequence.underLoad, sequence.course);
  sequence.isUnderLoad = true;
}

/** Positions whose input is known: the prompt and what is drawn. Prefill catches up to here. */
export function knownPositions(sequence: Sequence, row: SequenceRow): number {
  return sequence.course.known(row.promptLength, sequence.emitted);
}

/** Every row has what the next token or timestep is drawn from. */
export function isReadyToDecode(sequence: Sequence): boolean {
  return sequence.rows.every((row) => row.computed === knownPositions(sequence, row));
}

export function releaseBlocks(sequence: Sequence, pool: BlockPool): void {
  for (const row of sequence.rows) {
    for (const block of row.blocks) pool.release(block);
    row.blocks = [];
    row.computed = 0;
  }
}
