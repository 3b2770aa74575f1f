import type { ClassInfo, SequenceSpec } from '../../engine/native-types.js';
import { passStepsOf } from '../../model/pass-steps.js';

/**
 * How a picture comes into being, as far as planning goes: what is counted, how far its rows reach, what a step may do of it.
 * One per family; everything else about scheduling is the same for all.
 */
export interface Course {
  /** Units of the whole picture: image tokens, or timesteps over all passes. */
  readonly total: number;
  /** Backbone rows that one round of a decode takes. */
  readonly rowsPerRound: number;
  /** Positions of each guidance row known before anything is drawn. */
  readonly startLengths: readonly number[];
  /** Blocks with which the picture can run to its end, alone in the pool. */
  peakBlocks(blockTokens: number): number;
  /** Positions of a row whose input is known: `start` at first, more with what is drawn. Prefill catches up to here. */
  known(start: number, emitted: number): number;
  /** Blocks that a row may need soon beyond those of its known positions; admission leaves them free. */
  spare(start: number, emitted: number, blockTokens: number): number;
  /** Positions that decodes of so many rounds may append to each row. */
  appended(emitted: number, rounds: number): number;
  /** Positions that so many units, drawn by decodes, have left computed in each row. */
  computedBy(units: number): number;
  /** Rounds of the next decode, at most `burst`. */
  rounds(emitted: number, burst: number): number;
  /** Units that a decode of so many rounds can come to at most; without drafts those it comes to. */
  mostDrawn(emitted: number, rounds: number): number;
  /** Where a prefill from `begin` ends that runs at most `budget` positions; `begin` where none can. */
  prefillEnd(begin: number, known: number, budget: number): number;
}

/** Timesteps of one step at most: who waits for the next step must not wait long. As in native/engine/transdiff_plan.h. */
export const MAX_STEP_TIMESTEPS = 8;

/** Throws for a class where the model has none: such a request should not have come this far. */
export function courseOf(spec: SequenceSpec, classes: ClassInfo | null): Course {
  if (spec.classLabel === undefined) return tokenCourse(spec);
  if (classes === null) throw new Error(`sequence ${spec.id} names a class of a model that has none`);
  return passCourse(spec, classes);
}

/** Image tokens that one round of a step may draw. */
function tokensPerRound({ speculation }: SequenceSpec): number {
  return speculation === undefined ? 1 : speculation.maxDraftTokens + 1;
}

/** Rows of a picture of a class: itself, and with guidance no class. Jumps have guidance in their weights, what judges drafts has not. */
export function guidanceRowsOf({ guidanceScale, fewStep = 0, speculation }: SequenceSpec): 1 | 2 {
  return guidanceScale > 1 && (fewStep === 0 || speculation !== undefined) ? 2 : 1;
}

/**
 * With this many blocks in the pool the sequence can run to its end: all positions of its rows, and one block per
 * row for the step in which a copied block and its original exist side by side.
 */
export function peakBlocks(rowLengths: readonly number[], totalTokens: number, blockTokens: number): number {
  return rowLengths.reduce((sum, length) => sum + Math.ceil((length + totalTokens - 1) / blockTokens) + 1, 0);
}

/** Token by token: each is drawn from the state of the position before it and then appended, but the last one. */
function tokenCourse(spec: SequenceSpec): Course {
  const total = spec.gridHeight * spec.gridWidth;
  const perRound = tokensPerRound(spec);
  const startLengths = spec.promptRows.map((ids) => ids.length);
  return {
    total,
    // All guidance rows see every token that is drafted.
    rowsPerRound: startLengths.length * perRound,
    startLengths,
    peakBlocks: (blockTokens) => peakBlocks(startLengths, total, blockTokens),
    known: (start, emitted) => start + emitted,
    spare: (_start, _emitted, blockTokens) => Math.ceil(perRound / blockTokens),
    appended: (emitted, rounds) => Math.min(rounds * perRound, total - emitted - 1),
    computedBy: (units) => units,
    rounds: (emitted, burst) => Math.min(burst, total - emitted),
    mostDrawn: (emitted, rounds) => Math.min(rounds * perRound, total - emitted),
    prefillEnd: (begin, known, budget) => Math.min(known, begin + budget),
  };
}

/**
 * In passes over the whole picture (docs/transdiff.md, A step): a pass's positions are prefilled once the pass before it is
 * drawn, its timesteps append nothing.
 */
function passCourse(spec: SequenceSpec, { classTokens, passTokens, numPasses }: ClassInfo): Course {
  const { each, last } = passStepsOf(spec.timesteps, spec.fewStep ?? 0, spec.speculation !== undefined);
  const total = (numPasses - 1) * each + last;
  const first = classTokens + passTokens;
  const startLengths = Array<number>(guidanceRowsOf(spec)).fill(first);
  const passOf = (emitted: number): number => Math.min(Math.floor(emitted / each), numPasses - 1);
  const endOf = (emitted: number): number => (passOf(emitted) === numPasses - 1 ? total : (passOf(emitted) + 1) * each);
  const known = (start: number, emitted: number): number => start + passOf(emitted) * passTokens;
  return {
    total,
    rowsPerRound: 0,
    startLengths,
    peakBlocks: (blockTokens) => startLengths.length * Math.ceil((classTokens + numPasses * passTokens) / blockTokens),
    known,
    // The next pass's; the last one leaves nothing to come.
    spare: (start, emitted, blockTokens) => Math.ceil(known(start, emitted + each) / blockTokens) - Math.ceil(known(start, emitted) / blockTokens),
    appended: () => 0,
    computedBy: () => 0,
    rounds: (emitted, burst) => Math.min(burst, MAX_STEP_TIMESTEPS, endOf(emitted) - emitted),
    // A reference that is drafted and kept is over at once.
    mostDrawn: (emitted, rounds) => (spec.speculation === undefined ? rounds : endOf(emitted) - emitted),
    prefillEnd: (begin, known, budget) => {
      const most = Math.min(known, begin + budget);
      if (most < first) return begin;
      return Math.max(begin, first + Math.floor((most - first) / passTokens) * passTokens);
    },
  };
}
