/** Finds the weights in what a checkpoint pickle holds: a state dict, bare or wrapped once. */
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import type { PickleValue, TensorRef } from './pickle.js';

/** Keys under which training code wraps its state dict. */
const WRAPPERS = ['state_dict', 'model', 'module'];

function tensorsOf(value: PickleValue | undefined): Map<string, TensorRef> | undefined {
  if (!(value instanceof Map)) return undefined;
  const tensors = new Map<string, TensorRef>();
  for (const [name, item] of value) {
    const isTensor = typeof item === 'object' && item !== null && !Array.isArray(item) && !(item instanceof Map) && item.kind === 'tensor';
    if (typeof name === 'string' && isTensor) tensors.set(name, item);
  }
  return tensors.size > 0 ? tensors : undefined;
}

export function findStateDict(value: PickleValue): Map<string, TensorRef> {
  const candidates = value instanceof Map ? [value, ...WRAPPERS.map((key) => value.get(key))] : [];
  for (const candidate of candidates) {
    const tensors = tensorsOf(candidate);
    if (tensors !== undefined) return tensors;
  }
  throw new InvalidCheckpoint(`no tensors in the pickle, neither at its top nor under ${WRAPPERS.join(', ')}`);
}
