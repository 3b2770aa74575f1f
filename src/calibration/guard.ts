import { fitGaussian, frechetTo, quantile, type Gaussian, type Interval } from '../quality/frechet.js';
import type { Below } from '../quality/random.js';
import { conceptScores, scoresOf, type ConceptSample, type QualitySample, type Scores } from './quality-sample.js';

/**
 * How far two samples of vanilla lie apart that differ in nothing but their seeds: the 95 % interval of the difference, for
 * each score. A way of drawing whose difference to vanilla lies inside is of equal quality (docs/contract.md, Quality).
 */
export type VanillaSpread = Record<keyof Scores, Interval>;

export interface Verdict {
  passed: boolean;
  scores: Scores;
  vanilla: Scores;
  /** What diversity is compared with: vanilla's, or less. */
  diversityWanted: number;
  /** FD minus vanilla's FD, and the bootstrap 95 % interval of that over the prompts. */
  fdDifference: number;
  fdDifferenceInterval: Interval;
  /** What did not pass, in words; empty when all did. */
  faults: readonly string[];
}

/** Diversity may shrink by this share of vanilla's, however certain the shrinking is. */
const LEAST_DIVERSITY = 0.99;

/** Resolution of a drawn chance. */
const PARTS = 1 << 20;

/**
 * The null distribution by bootstrap: prompts are drawn with replacement, and for each one a coin says which of the two
 * vanilla samples goes to which side. Both sides then have the same law, and nothing in common but the prompts.
 *
 * Of the figures as they are defined: adherence has one picture a concept. That a sample has several seeds of each makes
 * its own figure more exact; it does not narrow what seeds do to the figure.
 */
export function vanillaSpread(a: QualitySample, b: QualitySample, reference: Gaussian, resamples: number, below: Below): VanillaSpread {
  const distance = frechetTo(reference);
  const pooled = [...a.features, ...b.features];
  const differences = Array.from({ length: resamples }, () => {
    const [left, right] = swapped(a.features.length, below);
    const [leftConcepts, rightConcepts] = swapped(a.concepts.length, below);
    const conceptsOf = (indices: readonly number[]): Omit<Scores, 'fd'> => {
      const concepts = pick([...a.concepts, ...b.concepts], indices);
      return conceptScores(concepts.map((concept) => ({ ...concept, adherence: onePicture(concept, below) })));
    };
    const [x, y] = [conceptsOf(leftConcepts), conceptsOf(rightConcepts)];
    return {
      fd: distance(fitGaussian(pooled, left)) - distance(fitGaussian(pooled, right)),
      adherence: x.adherence - y.adherence,
      diversity: x.diversity - y.diversity,
    };
  });
  const interval = (score: keyof Scores): Interval => intervalOf(differences.map((difference) => difference[score]));
  return { fd: interval('fd'), adherence: interval('adherence'), diversity: interval('diversity') };
}

/** Whether one of the concept's pictures, drawn at random, shows it. */
function onePicture({ adherence }: ConceptSample, below: Below): number {
  return below(PARTS) < adherence * PARTS ? 1 : 0;
}

/** Indices into [a, b] of n prompts drawn with replacement: one side, and the other. */
function swapped(n: number, below: Below): [number[], number[]] {
  const left: number[] = [];
  const right: number[] = [];
  for (let i = 0; i < n; i += 1) {
    const prompt = below(n);
    const coin = below(2);
    left.push(prompt + coin * n);
    right.push(prompt + (1 - coin) * n);
  }
  return [left, right];
}

/**
 * `vanilla` and `sample` have the same prompts and seeds. Better than vanilla is no fault: only the bad end of an interval counts.
 * fineDiversity: of vanilla with so many timesteps that it draws the model's own law; what vanilla has beyond that is noise that
 * few timesteps leave in a picture, which nobody has to keep.
 */
export function judge(
  sample: QualitySample,
  vanilla: QualitySample,
  spread: VanillaSpread,
  reference: Gaussian,
  resamples: number,
  below: Below,
  fineDiversity = Infinity,
): Verdict {
  const [scores, base] = [scoresOf(sample, reference), scoresOf(vanilla, reference)];
  const faults: string[] = [];
  const fdDifference = scores.fd - base.fd;
  if (fdDifference > spread.fd.high) faults.push(`FD +${fdDifference.toFixed(3)}, vanilla against itself up to +${spread.fd.high.toFixed(3)}`);
  const drop = base.adherence - scores.adherence;
  if (drop > -spread.adherence.low) faults.push(`adherence -${drop.toFixed(3)}, vanilla against itself down to ${spread.adherence.low.toFixed(3)}`);
  const diversityWanted = Math.min(base.diversity, fineDiversity);
  const kept = scores.diversity / diversityWanted;
  if (kept < LEAST_DIVERSITY) faults.push(`diversity ${(100 * kept).toFixed(1)} % of vanilla's, at least ${100 * LEAST_DIVERSITY} %`);
  return {
    passed: faults.length === 0,
    scores,
    vanilla: base,
    diversityWanted,
    fdDifference,
    fdDifferenceInterval: differenceInterval(sample.features, vanilla.features, reference, resamples, below),
    faults,
  };
}

/** Bootstrap over prompts, the same ones on both sides, so that what a prompt does to both cancels. */
function differenceInterval(a: readonly Float64Array[], b: readonly Float64Array[], reference: Gaussian, resamples: number, below: Below): Interval {
  const distance = frechetTo(reference);
  return intervalOf(
    Array.from({ length: resamples }, () => {
      const indices = a.map(() => below(a.length));
      return distance(fitGaussian(a, indices)) - distance(fitGaussian(b, indices));
    }),
  );
}

function intervalOf(values: readonly number[]): Interval {
  const sorted = [...values].sort((x, y) => x - y);
  return { low: quantile(sorted, 0.025), high: quantile(sorted, 0.975) };
}

function pick(concepts: readonly ConceptSample[], indices: readonly number[]): ConceptSample[] {
  return indices.map((i) => concepts[i]!);
}
