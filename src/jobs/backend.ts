import type { JobLogReader } from './event-log.js';
import type { CancelReason, JobRequest, JobResult, JobStatus } from './job.js';

/** How full the place is; what admission decides from. */
export interface QueueState {
  /** Jobs of which no picture has been started. */
  waiting: number;
  running: number;
  /** `waiting` at most. */
  capacity: number;
}

/**
 * What becomes of a job when nobody who asked for it is left: `cancel` at once, after a grace in which somebody may
 * come back, or `detach`: it runs to its end and is kept for the retention time.
 */
export type OnDisconnect = 'cancel' | 'detach' | { graceMs: number };

export interface SubmitOptions {
  /** Same key and same fingerprint: the same job, running or finished. Same key, other fingerprint: `idempotency_conflict`. */
  idempotencyKey?: string;
  /** Hash of the body as the client sent it. */
  fingerprint?: string;
  /** A retry of a client that lost its answer, without a key: joins a live job of equal fingerprint, if there is one. */
  isRetry?: boolean;
}

export interface JobHandle {
  readonly id: string;
  /** When it was accepted, in milliseconds since 1970. */
  readonly createdAt: number;
  readonly request: JobRequest;
  readonly status: JobStatus;
  /** Jobs ahead of it that have not started; 0 once it runs. */
  readonly position: number;
  /** Rejects with a `ServerError`; with code `cancelled` after `cancel`. Pictures stay until the job is forgotten. */
  readonly result: Promise<JobResult>;
  /** Every event from the first, trimmed by the rules of event-log.ts. */
  readonly log: JobLogReader;
  /**
   * Declares interest: the job lives at least as long as somebody is attached. Returns how to leave; when all have left
   * an unfinished job, the most patient policy among theirs decides. Watchers who only look do not attach.
   */
  attach(policy: OnDisconnect): () => void;
  /** Idempotent; after the end of the job it does nothing. Its slot is free within one step. */
  cancel(reason: CancelReason): void;
}

/** Where jobs run. The gateway knows this much: in a worker process of this machine today, elsewhere tomorrow. */
export interface JobBackend {
  /** Every model has a queue of its own, so that a run on one keeps nobody from another. */
  queueOf(model: string): QueueState;
  /** KV blocks the request needs at most, against what there is. */
  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number };
  /** `submit` would join a job that is there already; admission need not be asked. Throws `idempotency_conflict`. */
  wouldJoin(options: SubmitOptions): boolean;
  /** Callers ask admission first; a full queue is refused here as well. `joined`: it was there already. */
  submit(request: JobRequest, options?: SubmitOptions): { job: JobHandle; joined: boolean };
  /** Live jobs, and finished ones for the retention time (10 minutes). */
  get(id: string): JobHandle | null;
  /** Finishes what runs (up to `graceMs`), then ends everything. */
  drain(graceMs: number): Promise<void>;
}
