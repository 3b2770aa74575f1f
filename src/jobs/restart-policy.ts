import type { ServerError } from '../errors.js';

/** How a worker process ended. */
export type WorkerExit =
  /** It said that it cannot load the model. */
  | { kind: 'refused'; error: ServerError }
  /** Killed for giving no sign of life, or for a step without end. */
  | { kind: 'hang' }
  /** Killed by the system for memory. */
  | { kind: 'oom' }
  /** By itself or by a signal from elsewhere. */
  | { kind: 'exit'; code: number | null; signal: string | null };

export interface WorkerHistory {
  /** Whether any worker has ever come up: if so, the settings are good. */
  everReady: boolean;
  /** Ends in a row with no job finished between them, this one included. */
  failures: number;
}

export type Verdict = { kind: 'restart'; delayMs: number } | { kind: 'give_up' };

/** A server that has never drawn and cannot be made to is better ended, where somebody sees it. */
const MAX_FAILURES_AT_START = 5;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

/** What to do now. Pure: no clock, no process. */
export function afterExit(exit: WorkerExit, { everReady, failures }: WorkerHistory): Verdict {
  // The folder does not get better by reading it again.
  if (exit.kind === 'refused' && (!everReady || exit.error.code === 'model_unavailable')) return { kind: 'give_up' };
  if (!everReady && failures >= MAX_FAILURES_AT_START) return { kind: 'give_up' };
  return { kind: 'restart', delayMs: restartDelayMs(failures) };
}

/** At once the first time, as the jobs wait; then 100 ms, doubled up to 10 s. */
export function restartDelayMs(failures: number): number {
  return failures <= 1 ? 0 : Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 2));
}

export function describeExit(exit: WorkerExit): string {
  switch (exit.kind) {
    case 'refused':
      return `it could not load: ${exit.error.message}`;
    case 'hang':
      return 'it hung and was killed';
    case 'oom':
      return 'the system killed it for memory';
    case 'exit':
      return exit.signal === null ? `it exited with status ${exit.code ?? 'unknown'}` : `it was ended by ${exit.signal}`;
  }
}
