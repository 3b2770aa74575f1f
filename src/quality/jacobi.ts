import type { Matrix } from './matrix.js';

/** Cyclic Jacobi of a symmetric matrix; column k of `vectors` belongs to value k. */
export function eigen(matrix: Matrix, size: number): { values: Float64Array; vectors: Matrix } {
  const a = Float64Array.from(matrix);
  const vectors = new Float64Array(size * size);
  for (let i = 0; i < size; i += 1) vectors[i * size + i] = 1;
  const scale = Math.max(1e-300, a.reduce((sum, value) => sum + value * value, 0));
  for (let sweep = 0; sweep < 60 && offDiagonal(a, size) > 1e-22 * scale; sweep += 1) {
    for (let p = 0; p < size; p += 1) for (let q = p + 1; q < size; q += 1) rotate(a, vectors, size, p, q);
  }
  return { values: Float64Array.from({ length: size }, (_, i) => a[i * size + i]!), vectors };
}

/** Makes a[p][q] zero by a plane rotation. */
function rotate(a: Matrix, vectors: Matrix, size: number, p: number, q: number): void {
  const apq = a[p * size + q]!;
  if (apq === 0) return;
  const theta = (a[q * size + q]! - a[p * size + p]!) / (2 * apq);
  const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  for (let k = 0; k < size; k += 1) turn(a, k * size + p, k * size + q, c, s);
  for (let k = 0; k < size; k += 1) turn(a, p * size + k, q * size + k, c, s);
  for (let k = 0; k < size; k += 1) turn(vectors, k * size + p, k * size + q, c, s);
}

function turn(m: Matrix, i: number, j: number, c: number, s: number): void {
  const [x, y] = [m[i]!, m[j]!];
  m[i] = c * x - s * y;
  m[j] = s * x + c * y;
}

function offDiagonal(a: Matrix, size: number): number {
  let sum = 0;
  for (let p = 0; p < size; p += 1) for (let q = p + 1; q < size; q += 1) sum += a[p * size + q]! ** 2;
  return sum;
}
