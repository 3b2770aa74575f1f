/** Names and shapes of a state dict held against those a model has. */
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import type { StateDict } from './state-dict.js';

export type Shapes = ReadonlyMap<string, readonly number[]>;

const FLOATS: ReadonlySet<string> = new Set(['F64', 'F32', 'F16', 'BF16']);

interface Ranks {
  1: [number];
  2: [number, number];
  3: [number, number, number];
  4: [number, number, number, number];
}

/** The tensor's shape; its rank must be as said. */
export function shapeOf<R extends keyof Ranks>(tensors: StateDict, name: string, rank: R): Ranks[R] {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new InvalidCheckpoint(`has no tensor ${name}`);
  if (tensor.shape.length !== rank) throw new InvalidCheckpoint(`${name} has shape [${tensor.shape.join(', ')}], expected ${rank} dimensions`);
  return tensor.shape as Ranks[R];
}

/** How many blocks `prefix0.`, `prefix1.`, ... there are. */
export function countBlocks(tensors: StateDict, prefix: string): number {
  const numbers = new Set<number>();
  for (const name of tensors.keys()) {
    const number = name.startsWith(prefix) ? /^(\d{1,4})\./.exec(name.slice(prefix.length)) : null;
    if (number !== null) numbers.add(Number(number[1]));
  }
  for (let i = 0; i < numbers.size; ++i) {
    if (!numbers.has(i)) throw new InvalidCheckpoint(`has ${numbers.size} blocks ${prefix}*, but no ${prefix}${i}`);
  }
  return numbers.size;
}

/** Every expected tensor is there in its shape and of a float dtype. */
export function requireShapes(tensors: StateDict, expected: Shapes): void {
  for (const [name, shape] of expected) {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new InvalidCheckpoint(`has no tensor ${name}`);
    if (tensor.shape.join() !== shape.join()) throw new InvalidCheckpoint(`${name} has shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`);
    if (!FLOATS.has(tensor.storage.dtype)) throw new InvalidCheckpoint(`${name} is of dtype ${tensor.storage.dtype}, expected floats`);
  }
}

/** Nothing but what is expected. */
export function refuseOthers(tensors: StateDict, expected: Shapes): void {
  for (const name of tensors.keys()) {
    if (!expected.has(name)) throw new InvalidCheckpoint(`holds ${name}, which the model does not have`);
  }
}
