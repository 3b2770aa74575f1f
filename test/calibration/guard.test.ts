import { describe, expect, it } from 'vitest';
import { judge, vanillaSpread } from '../../src/calibration/guard.js';
import { conceptSample, scoresOf, type QualitySample } from '../../src/calibration/quality-sample.js';
import type { Gaussian } from '../../src/quality/frechet.js';
import { seededIntegers } from '../../src/quality/random.js';

const SIZE = 4;
const REFERENCE: Gaussian = {
  mean: new Float64Array(SIZE),
  covariance: Float64Array.from({ length: SIZE * SIZE }, (_, i) => (i % (SIZE + 1) === 0 ? 1 : 0)),
};

interface Make {
  seed: number;
  shift?: number;
  /** Width of the features around their prompt. */
  width?: number;
  hit?: number;
}

/** Normal features with a part of the prompt's own, so that samples agree prompt by prompt as pictures do. */
function sample({ seed, shift = 0, width = 1, hit = 0.9 }: Make): QualitySample {
  const below = seededIntegers(seed);
  const normal = (): number => Array.from({ length: 12 }, () => below(1_000_000) / 1_000_000).reduce((sum, u) => sum + u, -6);
  const prompts = seededIntegers(99);
  const ofPrompt = (): number => (prompts(1_000_000) / 1_000_000 - 0.5) * 2;
  const row = (): Float64Array => Float64Array.from({ length: SIZE }, () => ofPrompt() + shift + normal() * 0.8 * width);
  return {
    features: Array.from({ length: 500 }, row),
    concepts: Array.from({ length: 150 }, () => conceptSample(Array.from({ length: 4 }, () => below(1000) < hit * 1000), Array.from({ length: 4 }, row))),
  };
}

const vanilla = sample({ seed: 1 });
const spread = vanillaSpread(vanilla, sample({ seed: 2 }), REFERENCE, 300, seededIntegers(5));
const verdictOf = (make: Make) => judge(sample(make), vanilla, spread, REFERENCE, 100, seededIntegers(6));

describe('guard', () => {
  it('has intervals around zero, of the width that seeds alone make', () => {
    for (const { low, high } of Object.values(spread)) {
      expect(low).toBeLessThan(0);
      expect(high).toBeGreaterThan(0);
      expect(Math.abs(low + high)).toBeLessThan(0.5 * (high - low));
    }
    // Fresh vanilla samples fall inside about 19 times of 20.
    const base = scoresOf(vanilla, REFERENCE).fd;
    const fresh = Array.from({ length: 40 }, (_, i) => scoresOf(sample({ seed: 100 + i }), REFERENCE).fd - base);
    const inside = fresh.filter((difference) => difference >= spread.fd.low && difference <= spread.fd.high).length;
    expect(inside).toBeGreaterThanOrEqual(32);
  });

  it('passes vanilla itself', () => {
    const verdict = judge(vanilla, vanilla, spread, REFERENCE, 20, seededIntegers(1));
    expect(verdict).toMatchObject({ passed: true, faults: [], fdDifference: 0, fdDifferenceInterval: { low: 0, high: 0 } });
  });

  it('fails features that moved, and says by how much', () => {
    const verdict = verdictOf({ seed: 3, shift: 0.25 });
    expect(verdict.passed).toBe(false);
    expect(verdict.faults.join()).toMatch(/FD \+0\.\d+/);
    expect(verdict.fdDifferenceInterval.low).toBeGreaterThan(0);
    expect(verdict.fdDifferenceInterval.high).toBeGreaterThan(verdict.fdDifference);
  });

  it('asks for no more diversity than the model has with many timesteps', () => {
    const noisy = scoresOf(vanilla, REFERENCE).diversity;
    const dull = sample({ seed: 1, width: 0.5 });
    const { diversity } = scoresOf(dull, REFERENCE);
    const against = (fine: number) => judge(dull, vanilla, spread, REFERENCE, 20, seededIntegers(1), fine).faults.filter((fault) => fault.includes('diversity'));
    expect(against(2 * noisy)).toHaveLength(1);
    expect(against(1.05 * diversity)).toHaveLength(1);
    expect(against(diversity)).toEqual([]);
  });

  it('fails pictures that resemble each other', () => {
    expect(verdictOf({ seed: 3, width: 0.9 }).faults.join()).toMatch(/diversity 9\d\.\d %/);
  });

  it('fails pictures that no longer show what was asked', () => {
    expect(verdictOf({ seed: 3, hit: 0.75 }).faults.join()).toMatch(/adherence -0\.1/);
  });

  it('does not mind what is better than vanilla', () => {
    expect(verdictOf({ seed: 3, hit: 1, width: 1.02 }).faults.filter((fault) => !fault.startsWith('FD'))).toEqual([]);
  });
});

describe('conceptSample', () => {
  it('is the share of hits and the mean distance of pairs', () => {
    const features = [[0, 0], [3, 4], [0, 0]].map((row) => Float64Array.from(row));
    expect(conceptSample([true, false, true], features)).toEqual({ adherence: 2 / 3, diversity: 10 / 3 });
  });
});
