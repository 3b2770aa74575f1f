import type { RoundRecord } from '../engine/native-types.js';
import { adherence } from '../quality/adherence.js';
import { FeatureNetwork, weight } from '../quality/features.js';
import type { Gaussian } from '../quality/frechet.js';
import type { Concept, Prompt, QualityPack } from '../quality/pack.js';
import { conceptSample, type QualitySample } from './quality-sample.js';
import { drawAll, type Studio, type Way } from './studio.js';

export interface GuardSize {
  /** Pictures of the FD prompts. */
  fdPictures: number;
  concepts: number;
  /** Pictures of each concept, with different seeds. */
  seedsPerConcept: number;
}

/** Every way of drawing is judged by the same prompts and seeds; `seedOffset` gives vanilla its other ones. */
export interface GuardPrompts {
  fd: readonly Prompt[];
  /** Concept by concept, its seeds together. */
  concepts: readonly Concept[];
  seedsPerConcept: number;
}

/** Distance between the seeds of one concept: beyond the pack's own range, so none is drawn twice. */
const SEED_STRIDE = 1_000_000;
/** Distance between vanilla's two sets of seeds. */
export const OTHER_SEEDS = 500_000_000;

export function guardPrompts(pack: QualityPack, { fdPictures, concepts, seedsPerConcept }: GuardSize, seedOffset = 0): GuardPrompts {
  const moved = <P extends Prompt>(prompt: P, by: number): P => ({ ...prompt, seed: prompt.seed + seedOffset + by });
  return {
    fd: pack.fdPrompts.slice(0, fdPictures).map((prompt) => moved(prompt, 0)),
    concepts: pack.concepts.slice(0, concepts).flatMap((concept) => Array.from({ length: seedsPerConcept }, (_, i) => moved(concept, i * SEED_STRIDE))),
    seedsPerConcept,
  };
}

export interface Evaluation {
  sample: QualitySample;
  /** Of all pictures of a speculating way. */
  rounds: RoundRecord[];
}

export function referenceOf(pack: QualityPack): Gaussian {
  return {
    mean: Float64Array.from(weight(pack.features, 'mean').data),
    covariance: Float64Array.from(weight(pack.features, 'covariance').data),
  };
}

export async function evaluate(studio: Studio, pack: QualityPack, prompts: GuardPrompts, way: Way): Promise<Evaluation> {
  const network = new FeatureNetwork(pack.features);
  const features: Float64Array[] = [];
  const hits: boolean[] = [];
  const rounds: RoundRecord[] = [];
  const { fd, concepts, seedsPerConcept } = prompts;
  await drawAll(studio, [...fd, ...concepts], way, ({ image, decode }, index) => {
    features.push(network.features(image));
    rounds.push(...(decode.rounds ?? []));
    const concept = concepts[index - fd.length];
    if (concept !== undefined) hits.push(...adherence({ ...pack, concepts: [concept] }, [image]));
  });
  const conceptSamples = Array.from({ length: concepts.length / seedsPerConcept }, (_, i) => {
    const begin = i * seedsPerConcept;
    return conceptSample(hits.slice(begin, begin + seedsPerConcept), features.slice(fd.length + begin, fd.length + begin + seedsPerConcept));
  });
  return { sample: { features: features.slice(0, fd.length), concepts: conceptSamples }, rounds };
}
