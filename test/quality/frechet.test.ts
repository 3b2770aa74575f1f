import { describe, expect, it } from 'vitest';
import { bootstrapDistance, fitGaussian, frechetDistance, type Gaussian } from '../../src/quality/frechet.js';
import { eigen } from '../../src/quality/jacobi.js';
import { randomIntegers } from '../support/specs.js';

const diagonal = (mean: number[], variances: number[]): Gaussian => ({
  mean: Float64Array.from(mean),
  covariance: Float64Array.from({ length: mean.length ** 2 }, (_, i) => (i % (mean.length + 1) === 0 ? variances[i / (mean.length + 1)]! : 0)),
});

describe('frechetDistance', () => {
  it('is the closed form for diagonal covariances', () => {
    // |m - m'|^2 + sum (s - s')^2
    expect(frechetDistance(diagonal([1, 2], [4, 9]), diagonal([0, 0], [1, 1]))).toBeCloseTo(1 + 4 + 1 + 4, 10);
  });

  it('is zero between a distribution and itself, and symmetric', () => {
    const below = randomIntegers(3);
    const rows = Array.from({ length: 40 }, () => Float64Array.from({ length: 6 }, () => below(1000) / 100));
    const all = rows.map((_, i) => i);
    const [a, b] = [fitGaussian(rows, all), fitGaussian(rows, all.slice(0, 20))];
    expect(Math.abs(frechetDistance(a, a))).toBeLessThan(1e-9);
    expect(frechetDistance(a, b)).toBeCloseTo(frechetDistance(b, a), 8);
    expect(frechetDistance(a, b)).toBeGreaterThan(0.1);
  });

  it('has a bootstrap interval that holds the spread', () => {
    const below = randomIntegers(4);
    const rows = Array.from({ length: 200 }, () => Float64Array.of(below(100), below(100)));
    const { low, high } = bootstrapDistance(rows, diagonal([50, 50], [850, 850]), 50, below);
    expect(low).toBeLessThan(high);
    expect(high).toBeLessThan(60);
  });
});

describe('eigen', () => {
  it('rebuilds a symmetric matrix', () => {
    const size = 12;
    const below = randomIntegers(5);
    const matrix = new Float64Array(size * size);
    for (let i = 0; i < size; i += 1) for (let j = i; j < size; j += 1) matrix[i * size + j] = matrix[j * size + i] = below(200) - 100;
    const { values, vectors } = eigen(matrix, size);
    for (let i = 0; i < size; i += 1) {
      for (let j = 0; j < size; j += 1) {
        let sum = 0;
        for (let k = 0; k < size; k += 1) sum += vectors[i * size + k]! * values[k]! * vectors[j * size + k]!;
        expect(sum).toBeCloseTo(matrix[i * size + j]!, 8);
      }
    }
  });
});
