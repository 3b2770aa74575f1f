import { describe, expect, it } from 'vitest';
import { fisherTail, gammaTail, logGamma } from './special.js';

const relative = (value: number, expected: number): number => Math.abs(value / expected - 1);

describe('tails', () => {
  it('logGamma', () => {
    expect(logGamma(5)).toBeCloseTo(Math.log(24), 12);
    expect(logGamma(0.5)).toBeCloseTo(Math.log(Math.sqrt(Math.PI)), 12);
  });

  it('gammaTail: closed forms of whole shapes, far out too', () => {
    expect(relative(gammaTail(2, 1), Math.exp(-2))).toBeLessThan(1e-12);
    // Shape 3: e^-x (1 + x + x²/2).
    for (const x of [0.1, 2, 3.9, 40]) expect(relative(gammaTail(x, 3), Math.exp(-x) * (1 + x + (x * x) / 2))).toBeLessThan(1e-10);
    expect(gammaTail(-1, 3)).toBe(1);
  });

  it('fisherTail: closed forms of 2 degrees of freedom, far out too', () => {
    // F(2, b): (1 + 2f/b)^(-b/2);  F(a, 2): 1 - (1 + 2/(a f))^(-a/2).
    for (const f of [0.01, 1, 3, 60]) {
      expect(relative(fisherTail(f, 2, 50), (1 + (2 * f) / 50) ** -25)).toBeLessThan(1e-10);
      expect(relative(fisherTail(f, 7, 2), 1 - (1 + 2 / (7 * f)) ** -3.5)).toBeLessThan(1e-9);
    }
    // Its median against itself.
    expect(fisherTail(1, 9, 9)).toBeCloseTo(0.5, 12);
  });
});
