import { describe, expect, it } from 'vitest';
import { fitLine } from '../../src/calibration/least-squares.js';

describe('fitLine', () => {
  it('finds the line of points on it', () => {
    const { intercept, slope, worstError } = fitLine([1, 2, 4, 8], [2.5, 3, 4, 6]);
    expect(intercept).toBeCloseTo(2, 12);
    expect(slope).toBeCloseTo(0.5, 12);
    expect(worstError).toBeLessThan(1e-12);
  });

  it('says how far the points lie from it', () => {
    expect(fitLine([0, 1, 2], [1, 3, 1]).worstError).toBeCloseTo(2 / 3, 12);
  });

  it('never makes a time negative, and then takes the best of what is left', () => {
    expect(fitLine([1, 2, 3], [3, 2, 1])).toMatchObject({ slope: 0, intercept: 2 });
    // Free fit: y = 2x - 1. With the intercept held at 0 the slope is Σxy / Σx² = 22/14.
    const held = fitLine([1, 2, 3], [1, 3, 5]);
    expect(held.intercept).toBe(0);
    expect(held.slope).toBeCloseTo(22 / 14, 12);
  });

  it('refuses a single point', () => {
    expect(() => fitLine([2, 2], [1, 3])).toThrow(/two different/);
  });
});
