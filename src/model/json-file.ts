import { readFileSync } from 'node:fs';
import { EngineError } from '../errors.js';

/** A file of a model folder that is not what it should be; the message names file and key. */
export class InvalidModelFile extends EngineError {
  constructor(file: string, problem: string) {
    super('invalid_model', `${file}: ${problem}`);
  }
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** The parsed file, or undefined when there is none. */
export function readJsonFile(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new InvalidModelFile(path, `cannot be read: ${String(error)}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InvalidModelFile(path, `is not JSON: ${String(error)}`);
  }
}

export function readObject(file: string, value: unknown): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new InvalidModelFile(file, 'must be a JSON object');
  return value as JsonObject;
}

type Reader<T> = (key: string, value: unknown) => T;

/** The key read by `reader`, or the fallback when it is absent or null. */
export function readOptional<T, F>(json: JsonObject, key: string, fallback: F, reader: Reader<T>): T | F {
  const value = json[key];
  return value === undefined || value === null ? fallback : reader(key, value);
}

export function readNumber(file: string, { min, max = Infinity, integer = false }: { min: number; max?: number; integer?: boolean }): Reader<number> {
  return (key, value) => {
    const isNumber = typeof value === 'number' && Number.isFinite(value) && value >= min && value <= max && (!integer || Number.isInteger(value));
    if (!isNumber) throw new InvalidModelFile(file, `"${key}" must be ${integer ? 'an integer' : 'a number'} of at least ${min}${max === Infinity ? '' : ` and at most ${max}`}`);
    return value;
  };
}

export function readString(file: string): Reader<string> {
  return (key, value) => {
    if (typeof value !== 'string') throw new InvalidModelFile(file, `"${key}" must be a string`);
    return value;
  };
}

export function readEnum<T extends string>(file: string, values: readonly T[]): Reader<T> {
  return (key, value) => {
    const found = values.find((candidate) => candidate === value);
    if (found === undefined) throw new InvalidModelFile(file, `"${key}" must be one of ${values.join(', ')}`);
    return found;
  };
}
