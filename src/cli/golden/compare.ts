import type { Tensor } from '../../engine/native-types.js';

export interface Difference {
  /** max |a - b| / max(1, max |expected|), the quantity a tolerance bounds. NaN or another size: Infinity. */
  error: number;
  passed: boolean;
}

export function compare(got: Float32Array, expected: Tensor, tolerance: number): Difference {
  if (got.length !== expected.data.length) return { error: Infinity, passed: false };
  let difference = 0;
  let largest = 1;
  for (let i = 0; i < got.length; i += 1) {
    const delta = Math.abs(got[i]! - expected.data[i]!);
    // Written so that NaN counts as a difference.
    if (!(delta <= difference)) difference = Number.isNaN(delta) ? Infinity : delta;
    largest = Math.max(largest, Math.abs(expected.data[i]!));
  }
  const error = difference / largest;
  return { error, passed: error <= tolerance };
}
