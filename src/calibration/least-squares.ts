/** A straight line y = intercept + slope x, and how far the points lie from it. */
export interface Line {
  intercept: number;
  slope: number;
  /** Largest |y - line| over the points, relative to y. */
  worstError: number;
}

/**
 * Least squares with both numbers at least 0: they are times. Where the free fit is negative in one, the best point lies on that
 * edge, so the other is fitted alone.
 */
export function fitLine(xs: readonly number[], ys: readonly number[]): Line {
  if (xs.length !== ys.length || new Set(xs).size < 2) throw new Error('a line needs two different points');
  const meanX = mean(xs);
  const meanY = mean(ys);
  const spread = sum(xs, (x) => (x - meanX) ** 2);
  const free = sum(xs, (x, i) => (x - meanX) * (ys[i]! - meanY)) / spread;
  const throughOrigin = sum(xs, (x, i) => x * ys[i]!) / sum(xs, (x) => x * x);
  let [slope, intercept] = [free, meanY - free * meanX];
  if (slope < 0) [slope, intercept] = [0, Math.max(0, meanY)];
  else if (intercept < 0) [slope, intercept] = [Math.max(0, throughOrigin), 0];
  const worstError = Math.max(...xs.map((x, i) => Math.abs(ys[i]! - intercept - slope * x) / Math.abs(ys[i]!)));
  return { intercept, slope, worstError };
}

export function mean(values: readonly number[]): number {
  return sum(values, (value) => value) / values.length;
}

function sum(values: readonly number[], of: (value: number, index: number) => number): number {
  return values.reduce((total, value, i) => total + of(value, i), 0);
}
