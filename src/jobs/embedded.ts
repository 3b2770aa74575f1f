import { randomUUID } from 'node:crypto';
import { ServerError, toServerError } from '../errors.js';
import type { JobBackend, JobHandle, QueueState } from './backend.js';
import { isFinal, nextStatus, type JobEvent, type JobRequest, type JobResult, type JobStatus } from './job.js';

/** A job that was handed to a worker. */
export interface RunningJob {
  /** Stops it; no event follows. */
  cancel(): void;
}

/** The worker as a backend sees it. */
export interface JobWorker {
  start(request: JobRequest, emit: (event: JobEvent) => void): RunningJob;
  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number };
  stop(): Promise<void>;
}

/** Jobs in this process: no queue of its own, the scheduler's waiting queue is the queue. */
export class EmbeddedBackend implements JobBackend {
  private readonly jobs = new Set<EmbeddedJob>();
  private draining = false;

  constructor(
    private readonly worker: JobWorker,
    private readonly capacity: number,
  ) {}

  get queue(): QueueState {
    const count = (status: JobStatus): number => [...this.jobs].filter((job) => job.status === status).length;
    return { waiting: count('queued'), running: count('running'), capacity: this.capacity };
  }

  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number } {
    return this.worker.capacityOf(request);
  }

  submit(request: JobRequest): JobHandle {
    if (this.draining) throw new ServerError('draining', 'The server is shutting down.', { retryAfterSeconds: 5 });
    if (this.queue.waiting >= this.capacity) {
      throw new ServerError('queue_full', `All ${this.capacity} places in the queue are taken.`, { retryAfterSeconds: 1 });
    }
    const job = new EmbeddedJob();
    this.jobs.add(job);
    job.subscribe(() => {
      if (isFinal(job.status)) this.jobs.delete(job);
    });
    job.run(this.worker, request);
    return job;
  }

  async drain(graceMs: number): Promise<void> {
    this.draining = true;
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([Promise.allSettled([...this.jobs].map((job) => job.result)), grace]);
    clearTimeout(timer);
    for (const job of [...this.jobs]) job.fail(new ServerError('draining', 'The server is shutting down.', { retryAfterSeconds: 5 }));
    await this.worker.stop();
  }
}

class EmbeddedJob implements JobHandle {
  readonly id = randomUUID();
  readonly result: Promise<JobResult>;
  status: JobStatus = 'queued';
  private readonly listeners = new Set<(event: JobEvent) => void>();
  private running: RunningJob | null = null;
  private settle!: { resolve: (result: JobResult) => void; reject: (error: ServerError) => void };

  constructor() {
    this.result = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // Whoever only listens to events must not crash the process with an unhandled rejection.
    this.result.catch(() => undefined);
  }

  run(worker: JobWorker, request: JobRequest): void {
    this.publish({ kind: 'queued' });
    try {
      this.running = worker.start(request, (event) => {
        this.publish(event);
      });
    } catch (thrown) {
      this.publish({ kind: 'failed', error: toServerError(thrown) });
    }
  }

  subscribe(listener: (event: JobEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  cancel(): void {
    if (isFinal(this.status)) return;
    this.running?.cancel();
    this.publish({ kind: 'cancelled' });
  }

  fail(error: ServerError): void {
    if (isFinal(this.status)) return;
    this.running?.cancel();
    this.publish({ kind: 'failed', error });
  }

  private publish(event: JobEvent): void {
    if (isFinal(this.status)) return;
    this.status = nextStatus(this.status, event);
    if (event.kind === 'succeeded') this.settle.resolve(event.result);
    if (event.kind === 'failed') this.settle.reject(event.error);
    if (event.kind === 'cancelled') this.settle.reject(new ServerError('cancelled', 'The job was cancelled.'));
    for (const listener of this.listeners) listener(event);
  }
}
