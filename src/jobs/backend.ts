import type { JobEvent, JobRequest, JobResult, JobStatus } from './job.js';

/** How full the place is; what admission decides from. */
export interface QueueState {
  /** Jobs of which no picture has been started. */
  waiting: number;
  running: number;
  /** `waiting` at most. */
  capacity: number;
}

export interface JobHandle {
  readonly id: string;
  readonly status: JobStatus;
  /** Rejects with a `ServerError`; with code `cancelled` after `cancel`. */
  readonly result: Promise<JobResult>;
  /** Every event from now on, in order; returns how to stop listening. */
  subscribe(listener: (event: JobEvent) => void): () => void;
  /** Idempotent; after the end of the job it does nothing. */
  cancel(): void;
}

/** Where jobs run. The gateway knows this much: in this process today, elsewhere tomorrow. */
export interface JobBackend {
  readonly queue: QueueState;
  /** KV blocks the request needs at most, against what there is. */
  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number };
  /** Callers ask admission first; a full queue is refused here as well. */
  submit(request: JobRequest): JobHandle;
  /** Finishes what runs (up to `graceMs`), then ends everything. */
  drain(graceMs: number): Promise<void>;
}
