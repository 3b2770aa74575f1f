/** A square matrix, row major. */
export type Matrix = Float64Array;

export function multiply(a: Matrix, b: Matrix, size: number): Matrix {
  const out = new Float64Array(size * size);
  for (let i = 0; i < size; i += 1) {
    for (let k = 0; k < size; k += 1) {
      const factor = a[i * size + k]!;
      for (let j = 0; j < size; j += 1) out[i * size + j]! += factor * b[k * size + j]!;
    }
  }
  return out;
}

export function trace(matrix: Matrix, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i += 1) sum += matrix[i * size + i]!;
  return sum;
}
