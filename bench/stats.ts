/** A figure as it is reported: the middle of several rounds, and how far they lay apart. */
export interface Spread {
  median: number;
  min: number;
  max: number;
  rounds: number;
}

export function spreadOf(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error('no rounds were measured');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)!, rounds: sorted.length };
}

/** Round by round, so that what slowed both sides of a round down cancels. */
export function ratiosOf(numerators: readonly number[], denominators: readonly number[]): number[] {
  return numerators.map((value, index) => value / denominators[index]!);
}

/** "median (min … max)" with three significant digits. */
export function show({ median, min, max }: Spread, unit: string, scale = 1): string {
  const digits = (value: number): string => String(Number((value * scale).toPrecision(3)));
  const gap = unit === '' || unit === '%' || unit === 'x' ? '' : ' ';
  return `${digits(median)}${gap}${unit} (${digits(min)} … ${digits(max)})`;
}
