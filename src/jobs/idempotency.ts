import { ServerError } from '../errors.js';
import type { SubmitOptions } from './backend.js';
import type { Clock } from './clock.js';
import { isFinal, type JobRequest, type JobStatus } from './job.js';

/** How long a key is remembered, and how many of them: the oldest is forgotten first. */
const KEY_MEMORY_MS = 24 * 60 * 60 * 1000;
const MAX_KEYS = 10_000;

interface Submitted {
  fingerprint: string;
  at: number;
  /** Not the job itself: its pictures are forgotten long before its key. */
  jobId: string;
  request: JobRequest;
}

/** What to do with a submission. `request` is set where an earlier one must be repeated. */
export type Verdict<Job> = { kind: 'join'; job: Job } | { kind: 'run'; request: JobRequest | null };

/**
 * Tells a new wish from one that was heard before.
 *
 * With a key: the job that the key named, while it is live or its pictures are still there. A job that failed or was
 * cancelled is run again, as that is what its client repeats itself for. So is one whose pictures are forgotten, and
 * from the request of the first time: the seeds are in it, so the pictures are the same.
 *
 * Without a key, a retry joins a live job with the same body: its answer was lost on the way.
 */
export class Idempotency<Job extends { readonly id: string; readonly status: JobStatus }> {
  /** By key, oldest first. */
  private readonly keys = new Map<string, Submitted>();
  /** Live jobs by the fingerprint they were submitted with; the newest of equal ones. */
  private readonly live = new Map<string, Job>();

  constructor(
    private readonly clock: Clock,
    /** Null once its pictures are gone. */
    private readonly find: (id: string) => Job | null,
  ) {}

  judge({ idempotencyKey, fingerprint = '', isRetry = false }: SubmitOptions): Verdict<Job> {
    if (idempotencyKey !== undefined) return this.byKey(idempotencyKey, fingerprint);
    const twin = isRetry && fingerprint !== '' ? this.live.get(fingerprint) : undefined;
    return twin === undefined ? { kind: 'run', request: null } : { kind: 'join', job: twin };
  }

  /** The job was accepted. Refused ones are not remembered: their clients come back with the same key. */
  remember({ idempotencyKey, fingerprint = '' }: SubmitOptions, job: Job, request: JobRequest): void {
    if (fingerprint !== '') this.live.set(fingerprint, job);
    if (idempotencyKey === undefined) return;
    // Deleted first: a map keeps the place of a key that is set again.
    this.keys.delete(idempotencyKey);
    this.keys.set(idempotencyKey, { fingerprint, at: this.clock.now(), jobId: job.id, request });
    this.forgetOld();
  }

  /** It is over: retries without a key start anew. */
  ended({ fingerprint = '' }: SubmitOptions, job: Job): void {
    if (this.live.get(fingerprint) === job) this.live.delete(fingerprint);
  }

  private byKey(key: string, fingerprint: string): Verdict<Job> {
    const known = this.keys.get(key);
    if (known === undefined || this.clock.now() - known.at >= KEY_MEMORY_MS) return { kind: 'run', request: null };
    if (known.fingerprint !== fingerprint) {
      throw new ServerError('idempotency_conflict', 'This Idempotency-Key was used with another request body.', { shouldRetry: false });
    }
    const job = this.find(known.jobId);
    const usable = job !== null && (job.status === 'succeeded' || !isFinal(job.status));
    return usable ? { kind: 'join', job } : { kind: 'run', request: known.request };
  }

  private forgetOld(): void {
    for (const [key, { at }] of this.keys) {
      if (this.keys.size <= MAX_KEYS && this.clock.now() - at < KEY_MEMORY_MS) return;
      this.keys.delete(key);
    }
  }
}
