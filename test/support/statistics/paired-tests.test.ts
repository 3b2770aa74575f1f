import { describe, expect, it } from 'vitest';
import { seededIntegers } from '../../../src/quality/random.js';
import { covarianceTest, energyTest, meanTest, normal, pearsonTail, type Rows } from './paired-tests.js';

const COUNT = 300;
const SIZE = 6;

/** Rows around a prompt's own centre; the last number is the sum of the others, so one direction has no spread. */
function rows(seed: number, change: { shift?: number; twist?: number } = {}): Rows {
  const below = seededIntegers(seed);
  const prompts = seededIntegers(1000);
  return Array.from({ length: COUNT }, () => {
    const row = Array.from({ length: SIZE - 1 }, () => 2 * normal(prompts) + normal(below));
    row[0]! += change.shift ?? 0;
    row[1]! += (change.twist ?? 0) * row[2]!;
    return Float64Array.from([...row, row.reduce((sum, value) => sum + value, 0)]);
  });
}

const TESTS = {
  mean: meanTest,
  covariance: (a: Rows, b: Rows) => covarianceTest(a, b, 1),
  energy: (a: Rows, b: Rows) => energyTest(a, b, 1, 300),
};

describe.each(Object.entries(TESTS))('%s test', (_, test) => {
  it('gives p that is uniform when the laws are equal', () => {
    const ps = Array.from({ length: 60 }, (__, i) => test(rows(10 + i), rows(500 + i))).sort((a, b) => a - b);
    // Kolmogorov–Smirnov at 1 %: 1.63 / sqrt(60).
    const gap = Math.max(...ps.map((p, i) => Math.max(Math.abs(p - i / 60), Math.abs(p - (i + 1) / 60))));
    expect(gap).toBeLessThan(0.21);
  });
});

describe('power', () => {
  it('of the means and of the energy: a shift', () => {
    expect(meanTest(rows(1), rows(2, { shift: 0.7 }))).toBeLessThan(1e-9);
    expect(energyTest(rows(1), rows(2, { shift: 0.7 }), 1)).toBeLessThan(1e-9);
  });

  it('of the covariances: a correlation that no mean shows', () => {
    expect(covarianceTest(rows(1), rows(2, { twist: 0.5 }), 1)).toBeLessThan(1e-9);
  });
});

describe('pearsonTail', () => {
  it('is the normal tail of a normal sample, beyond its largest value', () => {
    const below = seededIntegers(4);
    const sample = Array.from({ length: 20_000 }, () => normal(below));
    const p = pearsonTail(6, sample);
    expect(p).toBeGreaterThan(1e-10);
    expect(p).toBeLessThan(1e-7);
    expect(pearsonTail(0, sample)).toBeCloseTo(0.5, 1);
  });
});
