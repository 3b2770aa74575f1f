import { describe, expect, it } from 'vitest';
import { areaUnderCurve } from '../../src/calibration/auc.js';
import { fitLogistic, probability } from '../../src/calibration/logistic.js';
import { randomIntegers } from '../support/specs.js';

/** Samples of a known model, so that the fit can be held to it. */
function sample(count: number, weights: readonly number[], seed: number): { rows: number[][]; labels: boolean[] } {
  const below = randomIntegers(seed);
  const uniform = (): number => below(1_000_000) / 1_000_000;
  const rows = Array.from({ length: count }, () => weights.slice(1).map((_, i) => 10 * i + uniform() * 4 - 2));
  const labels = rows.map((row) => uniform() < probability({ weights }, row));
  return { rows, labels };
}

describe('fitLogistic', () => {
  it('finds the weights of the model that made the labels, in units of the raw features', () => {
    const truth = [3, 1.5, -0.4];
    const { rows, labels } = sample(40_000, truth, 1);
    fitLogistic(rows, labels).weights.forEach((weight, i) => {
      expect(Math.abs(weight - truth[i]!)).toBeLessThan(i === 0 ? 0.5 : 0.05);
    });
  });

  it('learns the sign', () => {
    const { rows, labels } = sample(2000, [0, -2], 2);
    expect(fitLogistic(rows, labels).weights[1]).toBeLessThan(-1.5);
  });

  it('stays finite where the classes are apart, and ignores a constant', () => {
    const rows = Array.from({ length: 20 }, (_, i) => [i, 7]);
    const { weights } = fitLogistic(rows, rows.map(([x]) => x! >= 10));
    expect(weights.every(Number.isFinite)).toBe(true);
    expect(weights[2]).toBeCloseTo(0, 9);
    expect(probability({ weights }, [19, 7])).toBeGreaterThan(0.99);
  });
});

describe('areaUnderCurve', () => {
  it('counts pairs in order, ties half', () => {
    expect(areaUnderCurve([1, 2, 3, 4], [false, false, true, true])).toBe(1);
    expect(areaUnderCurve([4, 3, 2, 1], [false, false, true, true])).toBe(0);
    expect(areaUnderCurve([1, 1, 1, 1], [false, true, false, true])).toBe(0.5);
    expect(areaUnderCurve([1, 2, 2, 3], [false, true, false, true])).toBe(3.5 / 4);
  });

  it('is about a half for scores that say nothing', () => {
    const below = randomIntegers(3);
    const labels = Array.from({ length: 20_000 }, () => below(3) === 0);
    expect(areaUnderCurve(labels.map(() => below(1000)), labels)).toBeCloseTo(0.5, 1);
  });

  it('is NaN without both classes', () => {
    expect(areaUnderCurve([1, 2], [true, true])).toBeNaN();
  });
});
