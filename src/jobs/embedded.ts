import { randomBytes } from 'node:crypto';
import { ServerError } from '../errors.js';
import type { JobBackend, JobHandle, QueueState, SubmitOptions } from './backend.js';
import { systemClock, type Clock } from './clock.js';
import { EmbeddedJob } from './embedded-job.js';
import { Idempotency } from './idempotency.js';
import type { JobCensus } from '../metrics/jobs.js';
import { isFinal, type JobEvent, type JobRequest, type JobStatus } from './job.js';
import type { JobWorker } from './job-worker.js';
import { DEFAULT_RETENTION, Retention, type RetentionLimits } from './retention.js';

export interface EmbeddedOptions {
  /** Jobs that may wait, of each model. */
  capacity: number;
  retention?: RetentionLimits;
  clock?: Clock;
  /** Sees every event of every job, for metrics; `before`: the job's status until then. */
  observe?: (job: JobHandle, event: JobEvent, before: JobStatus) => void;
}

/** Jobs of this process: no queue of its own, the scheduler's waiting queue is the queue. */
export class EmbeddedBackend implements JobBackend {
  readonly clock: Clock;
  /** Of this process: logs do not outlive it. No hyphen, as ids of events are `<epoch>-<seq>`. */
  readonly epoch = randomBytes(6).toString('hex');
  /** All that can be asked for. */
  private readonly jobs = new Map<string, EmbeddedJob>();
  /** In the order of submission. */
  private readonly waiting = new Set<EmbeddedJob>();
  private readonly running = new Set<EmbeddedJob>();
  private readonly retention: Retention;
  private readonly idempotency: Idempotency<EmbeddedJob>;
  /** Of live jobs that were submitted with a fingerprint. */
  private readonly submissions = new Map<EmbeddedJob, SubmitOptions>();
  private draining = false;

  constructor(
    private readonly worker: JobWorker,
    private readonly options: EmbeddedOptions,
  ) {
    this.clock = options.clock ?? systemClock;
    this.retention = new Retention(this.clock, options.retention ?? DEFAULT_RETENTION, (id) => this.jobs.delete(id));
    this.idempotency = new Idempotency(this.clock, (id) => this.jobs.get(id) ?? null);
  }

  queueOf(model: string): QueueState {
    return { waiting: countOf(this.waiting, model), running: countOf(this.running, model), capacity: this.options.capacity };
  }

  census(): JobCensus {
    const byState = { queued: this.waiting.size, running: this.running.size, succeeded: 0, failed: 0, cancelled: 0 };
    for (const { status } of this.jobs.values()) if (isFinal(status)) byState[status] += 1;
    const oldest = Math.min(...[...this.waiting, ...this.running].map((job) => job.createdAt));
    return { byState, oldestAgeSeconds: oldest === Infinity ? 0 : (this.clock.now() - oldest) / 1000 };
  }

  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number } {
    return this.worker.capacityOf(request);
  }

  wouldJoin(options: SubmitOptions): boolean {
    return this.idempotency.judge(options).kind === 'join';
  }

  submit(request: JobRequest, options: SubmitOptions = {}): { job: JobHandle; joined: boolean } {
    const verdict = this.idempotency.judge(options);
    if (verdict.kind === 'join') return { job: verdict.job, joined: true };
    const accepted = verdict.request ?? request;
    this.refuseIfFull(accepted.model);
    const job = new EmbeddedJob(accepted, this);
    this.jobs.set(job.id, job);
    this.waiting.add(job);
    this.submissions.set(job, options);
    this.idempotency.remember(options, job, job.request);
    job.run(this.worker);
    return { job, joined: false };
  }

  get(id: string): JobHandle | null {
    return this.jobs.get(id) ?? null;
  }

  async drain(graceMs: number): Promise<void> {
    this.draining = true;
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    const live = [...this.waiting, ...this.running];
    await Promise.race([Promise.allSettled(live.map((job) => job.result)), grace]);
    clearTimeout(timer);
    for (const job of live) job.fail(new ServerError('draining', 'The server is shutting down.', { retryAfterSeconds: 5 }));
    await this.worker.stop();
  }

  positionOf(job: EmbeddedJob): number {
    let ahead = 0;
    for (const other of this.waiting) {
      if (other === job) return ahead;
      if (other.request.model === job.request.model) ahead += 1;
    }
    return 0;
  }

  onEvent(job: EmbeddedJob, event: JobEvent, before: JobStatus): void {
    if (job.status !== before) this.move(job);
    this.options.observe?.(job, event, before);
  }

  /** The job is in the sets of its status. */
  private move(job: EmbeddedJob): void {
    this.waiting.delete(job);
    if (job.status === 'running') this.running.add(job);
    if (!isFinal(job.status)) return;
    this.running.delete(job);
    this.idempotency.ended(this.submissions.get(job) ?? {}, job);
    this.submissions.delete(job);
    this.retention.add(job.id, job.log.bytes);
  }

  private refuseIfFull(model: string): void {
    const { capacity } = this.options;
    if (this.draining) throw new ServerError('draining', 'The server is shutting down.', { retryAfterSeconds: 5 });
    if (countOf(this.waiting, model) >= capacity) {
      throw new ServerError('queue_full', `All ${capacity} places in the queue are taken.`, { retryAfterSeconds: 1 });
    }
  }
}

function countOf(jobs: Iterable<EmbeddedJob>, model: string): number {
  let count = 0;
  for (const { request } of jobs) if (request.model === model) count += 1;
  return count;
}
