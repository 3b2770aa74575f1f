import { expect } from 'vitest';
import { EngineError } from '../../src/errors.js';

/** What is wrong with a model's file, in the words of the error that reading it must end in. */
export function refusalOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).nativeCode).toBe('invalid_model');
    return (error as EngineError).detail;
  }
  throw new Error('it was accepted');
}
