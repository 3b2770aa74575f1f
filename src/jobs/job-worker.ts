import type { CancelReason, JobEvent, JobRequest } from './job.js';

/** Why a worker is to stop a job. `moved`: another one draws it. */
export type StopReason = CancelReason | 'moved';

/** A job that was handed to a worker. */
export interface RunningJob {
  /** Stops it; no event follows. The reason is for the worker's metrics. */
  cancel(reason: StopReason): void;
  /** Whether somebody follows the progress. While nobody does, a worker may tell of several steps at once. */
  watch(watched: boolean): void;
}

/** The worker as a backend sees it: in this process, or a proxy of one in a process of its own. */
export interface JobWorker {
  /** `emit` is called with the job's events in order, up to one final event; never before `start` returns. */
  start(request: JobRequest, emit: (event: JobEvent) => void): RunningJob;
  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number };
  stop(): Promise<void>;
}
