import { randomUUID } from 'node:crypto';
import { ServerError, toServerError } from '../errors.js';
import { Attachments } from './attachments.js';
import type { JobHandle, OnDisconnect } from './backend.js';
import type { Clock } from './clock.js';
import { JobLog } from './event-log.js';
import { isFinal, nextStatus, type CancelReason, type JobEvent, type JobRequest, type JobResult, type JobStatus } from './job.js';
import type { JobWorker, RunningJob } from './job-worker.js';

/** What a job needs of the backend that owns it. */
export interface JobOwner {
  readonly clock: Clock;
  readonly epoch: string;
  positionOf(job: EmbeddedJob): number;
  /** After the event is in the log; `before`: the status until then. */
  onEvent(job: EmbeddedJob, event: JobEvent, before: JobStatus): void;
}

/** One job: its status, its log, the promise of its result, and those who want it. */
export class EmbeddedJob implements JobHandle {
  readonly id = randomUUID();
  readonly createdAt: number;
  readonly result: Promise<JobResult>;
  readonly log: JobLog;
  status: JobStatus = 'queued';
  private readonly attachments: Attachments;
  private running: RunningJob | null = null;
  private settle!: { resolve: (result: JobResult) => void; reject: (error: ServerError) => void };

  constructor(
    readonly request: JobRequest,
    private readonly owner: JobOwner,
  ) {
    const { clock, epoch } = owner;
    this.createdAt = clock.now();
    this.log = new JobLog(epoch, clock.now, (watched) => this.running?.watch(watched));
    this.attachments = new Attachments(clock, () => {
      this.cancel('disconnect');
    });
    this.result = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // Whoever only reads the log must not crash the process with an unhandled rejection.
    this.result.catch(() => undefined);
  }

  get position(): number {
    return this.owner.positionOf(this);
  }

  run(worker: JobWorker): void {
    this.publish({ kind: 'queued' });
    try {
      this.running = worker.start(this.request, (event) => {
        this.publish(event);
      });
      if (this.log.watched) this.running.watch(true);
    } catch (thrown) {
      this.publish({ kind: 'failed', error: toServerError(thrown) });
    }
  }

  attach(policy: OnDisconnect): () => void {
    return this.attachments.attach(policy);
  }

  cancel(reason: CancelReason): void {
    if (isFinal(this.status)) return;
    this.running?.cancel(reason);
    this.publish({ kind: 'cancelled', reason });
  }

  /** The server ends before the job does. */
  fail(error: ServerError): void {
    if (isFinal(this.status)) return;
    this.running?.cancel('shutdown');
    this.publish({ kind: 'failed', error });
  }

  /** What comes after the end (a picture that was being encoded when the job was cancelled) is nobody's. */
  private publish(event: JobEvent): void {
    if (isFinal(this.status)) return;
    const before = this.status;
    this.status = nextStatus(before, event);
    if (isFinal(this.status)) this.attachments.end();
    this.log.append(event);
    this.owner.onEvent(this, event, before);
    if (event.kind === 'succeeded') this.settle.resolve(event.result);
    if (event.kind === 'failed') this.settle.reject(event.error);
    if (event.kind === 'cancelled') this.settle.reject(new ServerError('cancelled', 'The job was cancelled.'));
  }
}
