import { symmetricEigenvalues } from './eigenvalues.js';
import { eigen } from './jacobi.js';
import { multiply, trace, type Matrix } from './matrix.js';
import type { Below } from './random.js';

export interface Gaussian {
  mean: Float64Array;
  covariance: Matrix;
}

/** Mean and covariance (n - 1) of the rows picked by `indices`; a row may be picked often, as bootstraps do. */
export function fitGaussian(rows: readonly Float64Array[], indices: readonly number[]): Gaussian {
  const size = rows[0]?.length ?? 0;
  const times = new Uint32Array(rows.length);
  for (const i of indices) times[i]! += 1;
  const mean = new Float64Array(size);
  for (const [i, row] of rows.entries()) if (times[i]! > 0) for (let a = 0; a < size; a += 1) mean[a]! += (row[a]! * times[i]!) / indices.length;
  const covariance = new Float64Array(size * size);
  const centred = new Float64Array(size);
  for (const [i, row] of rows.entries()) {
    if (times[i] === 0) continue;
    for (let a = 0; a < size; a += 1) centred[a] = row[a]! - mean[a]!;
    for (let a = 0; a < size; a += 1) {
      const weighted = centred[a]! * times[i]!;
      for (let b = 0; b <= a; b += 1) covariance[a * size + b]! += weighted * centred[b]!;
    }
  }
  for (let a = 0; a < size; a += 1) for (let b = 0; b <= a; b += 1) covariance[b * size + a] = covariance[a * size + b]! /= indices.length - 1;
  return { mean, covariance };
}

/** |m - m'|^2 + tr(C + C' - 2 (C' C)^1/2); the root by the symmetric form (sqrt(C') C sqrt(C'))^1/2. */
export function frechetDistance(a: Gaussian, b: Gaussian): number {
  return frechetTo(b)(a);
}

/** Distances to one reference: its root, which takes longest, is found once. */
export function frechetTo(reference: Gaussian): (sample: Gaussian) => number {
  const size = reference.mean.length;
  const root = squareRoot(reference.covariance, size);
  const referenceTrace = trace(reference.covariance, size);
  return ({ mean, covariance }) => {
    const values = symmetricEigenvalues(multiply(multiply(root, covariance, size), root, size), size);
    const cross = values.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
    const shift = mean.reduce((sum, value, i) => sum + (value - reference.mean[i]!) ** 2, 0);
    return shift + trace(covariance, size) + referenceTrace - 2 * cross;
  };
}

export interface Interval {
  low: number;
  high: number;
}

/** Bootstrap 95 % interval of the distance. */
export function bootstrapDistance(rows: readonly Float64Array[], reference: Gaussian, resamples: number, below: Below): Interval {
  const distance = frechetTo(reference);
  const values = Array.from({ length: resamples }, () => {
    const sample = Array.from({ length: rows.length }, () => below(rows.length));
    return distance(fitGaussian(rows, sample));
  }).sort((x, y) => x - y);
  return { low: quantile(values, 0.025), high: quantile(values, 0.975) };
}

/** Linear between order statistics, as numpy's default. */
export function quantile(sorted: readonly number[], q: number): number {
  const at = q * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  return low + (at % 1) * (sorted[Math.ceil(at)]! - low);
}

function squareRoot(matrix: Matrix, size: number): Matrix {
  const { values, vectors } = eigen(matrix, size);
  const root = new Float64Array(size * size);
  for (let a = 0; a < size; a += 1) {
    for (let b = 0; b < size; b += 1) {
      for (let k = 0; k < size; k += 1) root[a * size + b]! += vectors[a * size + k]! * Math.sqrt(Math.max(0, values[k]!)) * vectors[b * size + k]!;
    }
  }
  return root;
}
