/** p(y = 1 | x) = 1 / (1 + exp(-(weights[0] + Σ weights[i + 1] x_i))), on raw features. */
export interface LogisticModel {
  /** Intercept first. */
  weights: readonly number[];
}

/** Keeps weights finite where one feature separates the classes; too small to be seen elsewhere. In units of standardised features. */
const RIDGE = 1e-3;
const MAX_NEWTON_STEPS = 50;

/** Maximum likelihood by Newton's method on standardised features; the weights that come back belong to the raw ones. */
export function fitLogistic(rows: readonly (readonly number[])[], labels: readonly boolean[]): LogisticModel {
  const scales = standardisation(rows);
  const inputs = rows.map((row) => [1, ...row.map((value, i) => (value - scales[i]!.mean) / scales[i]!.deviation)]);
  const size = scales.length + 1;
  let weights = new Array<number>(size).fill(0);
  for (let step = 0; step < MAX_NEWTON_STEPS; step += 1) {
    const change = newtonStep(inputs, labels, weights);
    weights = weights.map((weight, i) => weight + change[i]!);
    if (Math.max(...change.map(Math.abs)) < 1e-9) break;
  }
  const slopes = scales.map(({ deviation }, i) => weights[i + 1]! / deviation);
  const intercept = slopes.reduce((sum, slope, i) => sum - slope * scales[i]!.mean, weights[0]!);
  return { weights: [intercept, ...slopes] };
}

export function probability({ weights }: LogisticModel, row: readonly number[]): number {
  return sigmoid(row.reduce((sum, value, i) => sum + value * weights[i + 1]!, weights[0]!));
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** A constant feature keeps deviation 1: it is 0 after centring and learns nothing. */
function standardisation(rows: readonly (readonly number[])[]): { mean: number; deviation: number }[] {
  const count = rows.length;
  return (rows[0] ?? []).map((_, i) => {
    const mean = rows.reduce((sum, row) => sum + row[i]!, 0) / count;
    const variance = rows.reduce((sum, row) => sum + (row[i]! - mean) ** 2, 0) / count;
    return { mean, deviation: variance > 1e-18 ? Math.sqrt(variance) : 1 };
  });
}

function newtonStep(inputs: readonly (readonly number[])[], labels: readonly boolean[], weights: readonly number[]): number[] {
  const size = weights.length;
  const gradient = weights.map((weight, i) => (i === 0 ? 0 : -RIDGE * weight));
  const hessian = weights.map((_, i) => weights.map((__, j) => (i === j ? (i === 0 ? 1e-12 : RIDGE) : 0)));
  for (const [n, input] of inputs.entries()) {
    const p = sigmoid(input.reduce((sum, value, i) => sum + value * weights[i]!, 0));
    const error = (labels[n]! ? 1 : 0) - p;
    const curvature = p * (1 - p);
    for (let i = 0; i < size; i += 1) {
      gradient[i]! += error * input[i]!;
      for (let j = 0; j <= i; j += 1) hessian[i]![j]! += curvature * input[i]! * input[j]!;
    }
  }
  for (let i = 0; i < size; i += 1) for (let j = 0; j < i; j += 1) hessian[j]![i] = hessian[i]![j]!;
  return solve(hessian, gradient);
}

/** Gauss with row pivots; `matrix` and `right` are used up. */
function solve(matrix: number[][], right: number[]): number[] {
  const n = right.length;
  for (let k = 0; k < n; k += 1) {
    let pivot = k;
    for (let r = k + 1; r < n; r += 1) if (Math.abs(matrix[r]![k]!) > Math.abs(matrix[pivot]![k]!)) pivot = r;
    [matrix[k], matrix[pivot]] = [matrix[pivot]!, matrix[k]!];
    [right[k], right[pivot]] = [right[pivot]!, right[k]!];
    for (let r = k + 1; r < n; r += 1) {
      const factor = matrix[r]![k]! / matrix[k]![k]!;
      for (let c = k; c < n; c += 1) matrix[r]![c]! -= factor * matrix[k]![c]!;
      right[r]! -= factor * right[k]!;
    }
  }
  for (let k = n - 1; k >= 0; k -= 1) {
    for (let c = k + 1; c < n; c += 1) right[k]! -= matrix[k]![c]! * right[c]!;
    right[k]! /= matrix[k]![k]!;
  }
  return right;
}
