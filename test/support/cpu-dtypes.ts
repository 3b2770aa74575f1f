import { loadNativeModule } from '../../src/engine/native.js';

export const DTYPES = ['float32', 'bfloat16'] as const;

/** Whether the cpu backend computes in `dtype` here: bfloat16 only where the processor multiplies it (AMX, AVX512-BF16). */
export function cpuComputesIn(dtype: (typeof DTYPES)[number]): boolean {
  const { Engine } = loadNativeModule();
  return dtype === 'float32' || new Engine({ backend: 'cpu', dtype: 'auto', threads: 1 }).info.dtype === dtype;
}
