import { evaluate, guardPrompts, OTHER_SEEDS, referenceOf, type GuardSize } from '../../src/calibration/evaluate.js';
import { judge, vanillaSpread, type VanillaSpread } from '../../src/calibration/guard.js';
import { conceptScores, scoresOf, type QualitySample } from '../../src/calibration/quality-sample.js';
import type { Studio, Way } from '../../src/calibration/studio.js';
import { bootstrapDistance } from '../../src/quality/frechet.js';
import type { QualityPack } from '../../src/quality/pack.js';
import { seededIntegers } from '../../src/quality/random.js';
import { VANILLA, type BenchWay } from './ways.js';

/** As it goes into the result file. Intervals are 95 %. */
export interface WayQuality {
  adherence: number;
  fd: number;
  /** Bootstrap over the pictures. */
  fd_interval: [number, number];
  /** To vanilla, with the same prompts and seeds; of vanilla itself 0. */
  fd_difference: number;
  fd_difference_interval: [number, number];
  diversity: number;
  pictures: number;
  /** Inside what vanilla differs from itself by other seeds; null: vanilla's second set was not drawn. */
  equal_to_vanilla: boolean | null;
  faults: readonly string[];
}

export interface QualityOptions {
  size: GuardSize;
  resamples: number;
  /** Draw vanilla again with other seeds, to say what is equal. */
  spread: boolean;
  /** The one of the ways whose diversity is enough for the others: the model's own law (guard.ts, fineDiversity). Null: vanilla's is asked for. */
  fine: BenchWay | null;
}

export interface QualityResult {
  ways: Map<string, WayQuality>;
  spread: VanillaSpread | null;
}

export async function measureQuality(studio: Studio, pack: QualityPack, ways: readonly BenchWay[], options: QualityOptions, log: (line: string) => void): Promise<QualityResult> {
  const reference = referenceOf(pack);
  const prompts = guardPrompts(pack, options.size);
  const sampleOf = async (way: Way, seeds = prompts): Promise<QualitySample> => (await evaluate(studio, pack, seeds, way)).sample;
  log('quality: off');
  const vanilla = await sampleOf(VANILLA.way);
  let spread: VanillaSpread | null = null;
  if (options.spread) {
    log('quality: off with other seeds');
    const other = await sampleOf(VANILLA.way, guardPrompts(pack, options.size, OTHER_SEEDS));
    spread = vanillaSpread(vanilla, other, reference, options.resamples, seededIntegers(1));
  }
  let fine: QualitySample | null = null;
  if (options.fine !== null) {
    log(`quality: ${options.fine.name}`);
    fine = await sampleOf(options.fine.way);
  }
  const fineDiversity = fine === null ? Infinity : conceptScores(fine.concepts).diversity;
  const results = new Map<string, WayQuality>();
  const add = (name: string, sample: QualitySample): void => {
    const scores = scoresOf(sample, reference);
    const { low, high } = bootstrapDistance(sample.features, reference, options.resamples, seededIntegers(3));
    const verdict = judge(sample, vanilla, spread ?? UNKNOWN_SPREAD, reference, name === VANILLA.name ? 1 : options.resamples, seededIntegers(2), fineDiversity);
    results.set(name, {
      adherence: round(scores.adherence),
      fd: round(scores.fd),
      fd_interval: [round(low), round(high)],
      fd_difference: round(verdict.fdDifference),
      fd_difference_interval: [round(verdict.fdDifferenceInterval.low), round(verdict.fdDifferenceInterval.high)],
      diversity: round(scores.diversity),
      pictures: sample.features.length,
      equal_to_vanilla: spread === null ? null : verdict.passed,
      faults: spread === null ? [] : verdict.faults,
    });
  };
  add(VANILLA.name, vanilla);
  for (const { name, way } of ways) {
    if (fine !== null && name === options.fine?.name) {
      add(name, fine);
      continue;
    }
    log(`quality: ${name}`);
    add(name, await sampleOf(way));
  }
  return { ways: results, spread };
}

/** Judges nothing: everything lies inside. */
const UNKNOWN_SPREAD: VanillaSpread = {
  fd: { low: -Infinity, high: Infinity },
  adherence: { low: -Infinity, high: Infinity },
  diversity: { low: -Infinity, high: Infinity },
};

function round(value: number): number {
  return Number(value.toFixed(4));
}
