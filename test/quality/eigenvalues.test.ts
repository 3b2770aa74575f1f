import { describe, expect, it } from 'vitest';
import { symmetricEigenvalues } from '../../src/quality/eigenvalues.js';
import { eigen } from '../../src/quality/jacobi.js';
import { randomIntegers } from '../support/specs.js';

const sorted = (values: Float64Array): number[] => [...values].sort((a, b) => a - b);

describe('symmetricEigenvalues', () => {
  it.each([1, 2, 3, 12, 48])('are those of the rotations, size %i', (size) => {
    const below = randomIntegers(size);
    const matrix = new Float64Array(size * size);
    for (let i = 0; i < size; i += 1) for (let j = i; j < size; j += 1) matrix[i * size + j] = matrix[j * size + i] = below(200) - 100;
    const expected = sorted(eigen(matrix, size).values);
    sorted(symmetricEigenvalues(matrix, size)).forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 7);
    });
  });

  it('of a matrix of rank one: its trace, and zeros', () => {
    const v = [1, 2, 0, -3];
    const matrix = Float64Array.from(v.flatMap((a) => v.map((b) => a * b)));
    const values = sorted(symmetricEigenvalues(matrix, 4));
    expect(values[3]).toBeCloseTo(14, 10);
    expect(Math.max(...values.slice(0, 3).map(Math.abs))).toBeLessThan(1e-10);
  });

  it('of a diagonal matrix: the diagonal', () => {
    expect(sorted(symmetricEigenvalues(Float64Array.of(3, 0, 0, 0, 1, 0, 0, 0, 2), 3))).toEqual([1, 2, 3]);
  });
});
