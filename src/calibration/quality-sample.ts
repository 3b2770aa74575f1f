import { fitGaussian, frechetTo, type Gaussian } from '../quality/frechet.js';

/**
 * What is known of the pictures that one way of drawing made. Every sample of a calibration has the same prompts in the same
 * order, so samples can be compared prompt by prompt.
 */
export interface QualitySample {
  /** Features of the pictures of the FD prompts. */
  features: readonly Float64Array[];
  concepts: readonly ConceptSample[];
}

/** One concept of the adherence list, drawn with several seeds. */
export interface ConceptSample {
  /** How many of the pictures show the concept, 0 … 1. */
  adherence: number;
  /** Mean distance in features between two of the pictures: what a draft that is too sure of itself shrinks first. */
  diversity: number;
}

export interface Scores {
  fd: number;
  adherence: number;
  diversity: number;
}

export function scoresOf(sample: QualitySample, reference: Gaussian): Scores {
  return {
    fd: frechetTo(reference)(fitGaussian(sample.features, sample.features.map((_, i) => i))),
    ...conceptScores(sample.concepts),
  };
}

export function conceptScores(concepts: readonly ConceptSample[]): Omit<Scores, 'fd'> {
  const average = (of: (concept: ConceptSample) => number): number => concepts.reduce((sum, concept) => sum + of(concept), 0) / concepts.length;
  return { adherence: average(({ adherence }) => adherence), diversity: average(({ diversity }) => diversity) };
}

/** Of the pictures of one concept: which show it, and their features. At least two. */
export function conceptSample(hits: readonly boolean[], features: readonly Float64Array[]): ConceptSample {
  let total = 0;
  let pairs = 0;
  for (let i = 0; i < features.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      total += distance(features[i]!, features[j]!);
      pairs += 1;
    }
  }
  return { adherence: hits.filter(Boolean).length / hits.length, diversity: total / pairs };
}

function distance(a: Float64Array, b: Float64Array): number {
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0));
}
