import { describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { afterExit, describeExit, restartDelayMs, type WorkerExit } from '../../src/jobs/restart-policy.js';

const CRASH: WorkerExit = { kind: 'exit', code: null, signal: 'SIGSEGV' };
const BAD_MODEL: WorkerExit = { kind: 'refused', error: new ServerError('model_unavailable', 'no weights') };
const NO_MEMORY: WorkerExit = { kind: 'refused', error: new ServerError('out_of_memory', 'too large') };

describe('afterExit', () => {
  it('replaces a worker that was up at once, and the next ones with growing patience', () => {
    expect(afterExit(CRASH, { everReady: true, failures: 1 })).toEqual({ kind: 'restart', delayMs: 0 });
    expect([1, 2, 3, 4, 5].map(restartDelayMs)).toEqual([0, 100, 200, 400, 800]);
    expect(restartDelayMs(1000)).toBe(10_000);
    for (const exit of [CRASH, NO_MEMORY, { kind: 'hang' }, { kind: 'oom' }] as const) {
      expect(afterExit(exit, { everReady: true, failures: 100 })).toEqual({ kind: 'restart', delayMs: 10_000 });
    }
  });

  it('does not read a bad model again', () => {
    expect(afterExit(BAD_MODEL, { everReady: false, failures: 1 })).toEqual({ kind: 'give_up' });
    expect(afterExit(BAD_MODEL, { everReady: true, failures: 1 })).toEqual({ kind: 'give_up' });
  });

  it('gives up at the start on what is refused, and on the fifth crash', () => {
    expect(afterExit(NO_MEMORY, { everReady: false, failures: 1 })).toEqual({ kind: 'give_up' });
    expect(afterExit(CRASH, { everReady: false, failures: 4 })).toMatchObject({ kind: 'restart' });
    expect(afterExit(CRASH, { everReady: false, failures: 5 })).toEqual({ kind: 'give_up' });
  });
});

describe('describeExit', () => {
  it.each([
    [CRASH, 'it was ended by SIGSEGV'],
    [{ kind: 'exit', code: 3, signal: null }, 'it exited with status 3'],
    [{ kind: 'hang' }, 'it hung and was killed'],
    [{ kind: 'oom' }, 'the system killed it for memory'],
    [BAD_MODEL, 'it could not load: no weights'],
  ] as [WorkerExit, string][])('%j', (exit, text) => {
    expect(describeExit(exit)).toBe(text);
  });
});
