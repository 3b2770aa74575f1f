/** Tail probabilities that stay accurate far out: tests of equal laws ask for p down to 1e-12. */

/** ln Γ(x), x > 0 (Lanczos, g = 7). */
export function logGamma(x: number): number {
  const COEFFICIENTS = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
    9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const t = x + 6.5;
  const series = COEFFICIENTS.slice(1).reduce((sum, c, i) => sum + c / (x + i), COEFFICIENTS[0]!);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(series);
}

/** Pr(F > f) of Fisher's F with a and b degrees of freedom. */
export function fisherTail(f: number, a: number, b: number): number {
  return f <= 0 ? 1 : incompleteBeta(b / (b + a * f), b / 2, a / 2);
}

/** Pr(G > x) of a gamma variable of that shape and scale 1. */
export function gammaTail(x: number, shape: number): number {
  if (x <= 0) return 1;
  const front = Math.exp(shape * Math.log(x) - x - logGamma(shape));
  if (x < shape + 1) {
    let [term, sum] = [1 / shape, 1 / shape];
    for (let n = 1; term > sum * 1e-16; n += 1) sum += term *= x / (shape + n);
    return 1 - front * sum;
  }
  return front * continuedFraction((n) => (n === 0 ? 1 : n * (shape - n)), (n) => x + 2 * n + 1 - shape);
}

/** Regularised I_x(a, b). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast on this side only.
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b)) / a;
  const numerator = (n: number): number => {
    if (n === 0) return 1;
    const m = Math.floor(n / 2);
    return n % 2 === 0 ? (m * (b - m) * x) / ((a + n - 1) * (a + n)) : (-(a + m) * (a + b + m) * x) / ((a + n - 1) * (a + n));
  };
  return front * continuedFraction(numerator, () => 1);
}

/** a_0 / (b_0 + a_1 / (b_1 + …)) by Lentz's method. */
function continuedFraction(a: (n: number) => number, b: (n: number) => number): number {
  const TINY = 1e-300;
  let value = TINY;
  let [c, d] = [value, 0];
  for (let n = 0; n < 10_000; n += 1) {
    d = 1 / (b(n) + a(n) * d || TINY);
    c = b(n) + a(n) / c || TINY;
    const factor = c * d;
    value *= factor;
    if (Math.abs(factor - 1) < 1e-15) return value;
  }
  throw new Error('the fraction does not converge');
}
