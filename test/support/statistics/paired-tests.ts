import { fitGaussian } from '../../../src/quality/frechet.js';
import { eigen } from '../../../src/quality/jacobi.js';
import { seededIntegers, type Below } from '../../../src/quality/random.js';
import { fisherTail, gammaTail } from './special.js';

/**
 * Tests whether two samples have one law, row i of both drawn for the same prompt. Under that law the two of a pair may be
 * swapped, so all tests look at pairs: what a prompt does to both cancels.
 */
export type Rows = readonly Float64Array[];

/** Hotelling's T² of the paired differences: equal means in all directions at once. Directions without spread are left out. */
export function meanTest(a: Rows, b: Rows): number {
  const differences = a.map((row, i) => row.map((value, k) => value - b[i]![k]!));
  const n = differences.length;
  const { mean, covariance } = fitGaussian(differences, differences.map((_, i) => i));
  const size = mean.length;
  const { values, vectors } = eigen(covariance, size);
  const largest = Math.max(...values);
  let [tSquared, rank] = [0, 0];
  for (const [k, value] of values.entries()) {
    if (value <= 1e-9 * largest) continue;
    let along = 0;
    for (let i = 0; i < size; i += 1) along += vectors[i * size + k]! * mean[i]!;
    tSquared += (n * along * along) / value;
    rank += 1;
  }
  return fisherTail((tSquared * (n - rank)) / (rank * (n - 1)), rank, n - rank);
}

/** Equal covariances: Hotelling on the products of a few random projections, so that any pair of directions may show. */
export function covarianceTest(a: Rows, b: Rows, seed: number): number {
  const PROJECTIONS = 8;
  const size = a[0]!.length;
  const below = seededIntegers(seed);
  const directions = Array.from({ length: PROJECTIONS }, () => Float64Array.from({ length: size }, () => normal(below)));
  const centre = fitGaussian([...a, ...b], Array.from({ length: a.length + b.length }, (_, i) => i)).mean;
  const products = (rows: Rows): Float64Array[] =>
    rows.map((row) => {
      const along = directions.map((direction) => direction.reduce((sum, value, i) => sum + value * (row[i]! - centre[i]!), 0));
      return Float64Array.from(along.flatMap((x, i) => along.slice(i).map((y) => x * y)));
    });
  return meanTest(products(a), products(b));
}

/**
 * Energy distance under swaps of pairs. c' M c with signs c is the statistic of one swapping; its law is fitted by its first
 * three moments (Pearson III), so that p can be smaller than one in the number of swappings.
 */
export function energyTest(a: Rows, b: Rows, seed: number, swappings = 500): number {
  const n = a.length;
  const matrix = pairMatrix(a, b);
  const below = seededIntegers(seed);
  const signs = new Float64Array(n).fill(1);
  const observed = quadratic(matrix, signs);
  const values = Array.from({ length: swappings }, () => {
    for (let i = 0; i < n; i += 1) signs[i] = below(2) * 2 - 1;
    return quadratic(matrix, signs);
  });
  return pearsonTail(observed, values);
}

/** M_ij = d(x_i, y_j) + d(y_i, x_j) - d(x_i, x_j) - d(y_i, y_j), i > j; the diagonal is the same for all signs. */
function pairMatrix(a: Rows, b: Rows): Float32Array[] {
  return a.map((x, i) => {
    const row = new Float32Array(i);
    for (let j = 0; j < i; j += 1) row[j] = distance(x, b[j]!) + distance(b[i]!, a[j]!) - distance(x, a[j]!) - distance(b[i]!, b[j]!);
    return row;
  });
}

function quadratic(matrix: readonly Float32Array[], signs: Float64Array): number {
  let total = 0;
  for (const [i, row] of matrix.entries()) {
    let sum = 0;
    for (let j = 0; j < i; j += 1) sum += row[j]! * signs[j]!;
    total += sum * signs[i]!;
  }
  return total;
}

/** Pr(X ≥ x) of the shifted gamma law with the sample's mean, variance and skewness. */
export function pearsonTail(x: number, sample: readonly number[]): number {
  const count = sample.length;
  const mean = sample.reduce((sum, value) => sum + value, 0) / count;
  const moment = (power: number): number => sample.reduce((sum, value) => sum + (value - mean) ** power, 0) / count;
  const deviation = Math.sqrt(moment(2));
  // Sums of squares lean to the right; less than this is sampling error, and nearly normal.
  const skewness = Math.max(0.05, moment(3) / deviation ** 3);
  const shape = 4 / skewness ** 2;
  return gammaTail(shape + ((x - mean) / deviation) * Math.sqrt(shape), shape);
}

function distance(a: Float64Array, b: Float64Array): number {
  let [s0, s1] = [0, 0];
  const even = a.length - (a.length % 2);
  for (let i = 0; i < even; i += 2) {
    const d0 = a[i]! - b[i]!;
    const d1 = a[i + 1]! - b[i + 1]!;
    s0 += d0 * d0;
    s1 += d1 * d1;
  }
  if (even < a.length) s0 += (a[even]! - b[even]!) ** 2;
  return Math.sqrt(s0 + s1);
}

/** Box–Muller; good enough for directions. */
export function normal(below: Below): number {
  const uniform = (): number => (below(2 ** 30) + 0.5) / 2 ** 30;
  return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
