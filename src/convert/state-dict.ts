/** Finds the weights in what a checkpoint pickle holds: a state dict, bare or wrapped once. */
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import type { PickleValue, TensorRef } from './pickle.js';

export type StateDict = ReadonlyMap<string, TensorRef>;

/**
 * Keys under which training code wraps its state dict, best first. `model_ema` is the average that TransDiff is evaluated
 * with; a file without one, or with an empty one, holds the weights to use under `model`.
 */
const WRAPPERS = ['model_ema', 'state_dict', 'model', 'module'];

export function findStateDict(value: PickleValue): StateDict {
  if (!(value instanceof Map)) throw new InvalidCheckpoint('the pickle is no dict');
  for (const key of WRAPPERS) {
    const wrapped = value.get(key);
    if (wrapped === undefined || wrapped === null) continue;
    // Something else under a name that promises weights: better said than passed over for older weights.
    if (!(wrapped instanceof Map)) throw new InvalidCheckpoint(`"${key}" is no dict`);
    const tensors = tensorsOf(wrapped);
    if (tensors.size > 0) return tensors;
    if (wrapped.size > 0) throw new InvalidCheckpoint(`"${key}" holds no tensors`);
  }
  const tensors = tensorsOf(value);
  if (tensors.size > 0) return tensors;
  throw new InvalidCheckpoint(`no tensors in the pickle, neither at its top nor under ${WRAPPERS.join(', ')}`);
}

function tensorsOf(map: ReadonlyMap<PickleValue, PickleValue>): Map<string, TensorRef> {
  const tensors = new Map<string, TensorRef>();
  for (const [name, item] of map) {
    const isTensor = typeof item === 'object' && item !== null && !Array.isArray(item) && !(item instanceof Map) && item.kind === 'tensor';
    if (typeof name === 'string' && isTensor) tensors.set(name, item);
  }
  return tensors;
}
