import { ServerError } from '../errors.js';
import type { MetricsSnapshot } from '../metrics/merge.js';
import { systemClock, type Clock } from './clock.js';
import { Delivery } from './delivery.js';
import { HangWatch, type HangLimits } from './hang-watch.js';
import type { FromWorker, KvMemory, WireEvent, WorkerReady, WorkerSetup } from './ipc.js';
import { isFinal, nextStatus, type JobEvent, type JobRequest } from './job.js';
import type { JobWorker, RunningJob } from './job-worker.js';
import { afterExit, describeExit, type WorkerExit } from './restart-policy.js';
import type { SpawnWorker, WorkerProcess } from './worker-process.js';
import { fromWireError } from './wire-error.js';

export type WorkerState = 'loading' | 'ready' | 'failed';

export interface SupervisorOptions {
  setup: WorkerSetup;
  spawn: SpawnWorker;
  hang: HangLimits;
  capacityOf: (kv: KvMemory, request: JobRequest) => { neededBlocks: number; totalBlocks: number };
  /** `loading`: jobs are better refused than kept waiting. A worker that is replaced at once stays `ready`. */
  onState: (state: WorkerState) => void;
  observer: SupervisorObserver;
  clock?: Clock;
}

/** For metrics and log. */
export interface SupervisorObserver {
  up(isUp: boolean, pid: number | undefined): void;
  ended(exit: WorkerExit, summary: string, isReplaced: boolean): void;
  /** A job is drawn again, because the worker that drew it died. */
  redelivered(): void;
}

interface Job {
  request: JobRequest;
  emit: (event: JobEvent) => void;
  delivery: Delivery;
  watched: boolean;
}

const TICK_MS = 1000;
/** For a worker that was asked to stop; it has nothing to finish but its step. */
const STOP_LIMIT_MS = 5000;

/** Keeps one worker process running: starts it, replaces it when it dies or hangs, and hands it the jobs of the last one. */
export class Supervisor implements JobWorker {
  /** The first worker is up; rejects when none can be brought up. */
  readonly ready: Promise<WorkerReady>;
  private readonly clock: Clock;
  /** In the order of submission, which is the order of replay. */
  private readonly jobs = new Map<number, Job>();
  private readonly scrapes = new Map<number, (metrics: MetricsSnapshot) => void>();
  private nextId = 1;
  private process: WorkerProcess | null = null;
  private hang: HangWatch;
  private setup: WorkerSetup;
  /** By model; null: none was ever loaded. */
  private kv: ReadonlyMap<string, KvMemory> | null = null;
  private isUp = false;
  private everReady = false;
  private failures = 0;
  /** Why the current process will end, if we know before it does. */
  private reason: WorkerExit | null = null;
  /** Set once there will never be a worker again. */
  private dead: ServerError | null = null;
  private stopping: (() => void) | null = null;
  private settle!: { resolve: (ready: WorkerReady) => void; reject: (error: ServerError) => void };

  constructor(private readonly options: SupervisorOptions) {
    this.clock = options.clock ?? systemClock;
    this.hang = new HangWatch(options.hang);
    this.setup = options.setup;
    this.ready = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    this.ready.catch(() => undefined);
    this.launch();
    this.tick();
  }

  start(request: JobRequest, emit: (event: JobEvent) => void): RunningJob {
    if (this.dead !== null) throw this.dead;
    const id = this.takeId();
    const job: Job = { request, emit, delivery: new Delivery(request, this.clock.now()), watched: false };
    this.jobs.set(id, job);
    if (this.isUp) this.give(id, job);
    return {
      cancel: (reason) => {
        if (this.jobs.delete(id) && this.isUp) this.process?.send({ kind: 'cancel', id, reason });
      },
      watch: (watched) => {
        job.watched = watched;
        if (this.isUp && this.jobs.has(id)) this.process?.send({ kind: 'watch', id, watched });
      },
    };
  }

  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number } {
    if (this.kv === null) throw new ServerError('model_loading', 'The model is loading.', { retryAfterSeconds: 1 });
    const kv = this.kv.get(request.model);
    if (kv === undefined) throw new ServerError('model_not_found', `The worker has no model '${request.model}'.`, { param: 'model' });
    return this.options.capacityOf(kv, request);
  }

  /** The worker's own metrics; none when it is not up, or dies meanwhile. */
  metrics(): Promise<MetricsSnapshot> {
    const worker = this.process;
    if (!this.isUp || worker === null) return Promise.resolve([]);
    const id = this.takeId();
    worker.send({ kind: 'metrics', id });
    return new Promise((resolve) => {
      this.scrapes.set(id, resolve);
    });
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.stopping = resolve;
      if (this.process === null) {
        resolve();
        return;
      }
      this.process.send({ kind: 'stop' });
      this.clock.after(STOP_LIMIT_MS, () => this.process?.kill());
    });
  }

  private launch(): void {
    if (this.stopping !== null) return;
    this.hang = new HangWatch(this.options.hang);
    this.reason = null;
    this.process = this.options.spawn({
      onMessage: (message) => {
        this.hang.heard();
        this.onMessage(message);
      },
      onExit: (exit) => {
        this.onExit(this.reason ?? exit);
      },
    });
    this.process.send({ kind: 'load', setup: this.setup });
  }

  private onMessage(message: FromWorker): void {
    switch (message.kind) {
      case 'ready':
        this.onReady(message);
        break;
      case 'refused':
        this.reason = { kind: 'refused', error: fromWireError(message.error) };
        break;
      case 'events':
        for (const { id, event } of message.events) this.onEvent(id, event);
        break;
      case 'alive':
        this.hang.inStep(message.stepSeconds);
        break;
      case 'metrics':
        this.scrapes.get(message.id)?.(message.metrics);
        this.scrapes.delete(message.id);
        break;
    }
  }

  private onReady(ready: WorkerReady): void {
    this.kv = new Map(ready.models.map(({ id, kv }) => [id, kv]));
    // What `auto` came to stays: another device draws other bytes.
    this.setup = { ...this.setup, device: ready.device.id };
    this.isUp = true;
    this.everReady = true;
    this.options.observer.up(true, this.process?.pid);
    this.settle.resolve(ready);
    this.options.onState('ready');
    for (const [id, job] of this.jobs) {
      if (job.delivery.isRepeated) this.options.observer.redelivered();
      this.give(id, job);
    }
  }

  private give(id: number, { delivery, watched }: Job): void {
    this.process?.send({ kind: 'job', id, request: delivery.attempt(this.clock.now()), watched });
  }

  /** Of a job that was cancelled meanwhile, events may still be on their way. */
  private onEvent(id: number, wire: WireEvent): void {
    const job = this.jobs.get(id);
    const event = job?.delivery.accept(wire) ?? null;
    if (job === undefined || event === null) return;
    if (event.kind === 'succeeded') this.failures = 0;
    if (isFinal(nextStatus('running', event))) this.jobs.delete(id);
    job.emit(event);
  }

  private onExit(exit: WorkerExit): void {
    const wasUp = this.isUp;
    this.process = null;
    this.isUp = false;
    for (const resolve of this.scrapes.values()) resolve([]);
    this.scrapes.clear();
    this.options.observer.up(false, undefined);
    if (this.stopping !== null) {
      this.stopping();
      return;
    }
    this.failures += 1;
    const verdict = afterExit(exit, { everReady: this.everReady, failures: this.failures });
    this.options.observer.ended(exit, describeExit(exit), verdict.kind === 'restart');
    if (wasUp) this.dropLost();
    if (verdict.kind === 'give_up') {
      this.giveUp(exit);
      return;
    }
    if (!wasUp) this.options.onState('loading');
    this.clock.after(verdict.delayMs, () => {
      this.launch();
    });
  }

  /**
   * Ends the jobs under which workers died too often. Suspects are those that were being drawn; when nothing is known
   * to have started, the one that was first in line, so that nothing can kill workers for ever. Jobs that only waited
   * are not to blame, however often workers die.
   */
  private dropLost(): void {
    const jobs = [...this.jobs];
    const drawing = jobs.filter(([, { delivery }]) => delivery.isDrawing);
    for (const [id, job] of drawing.length > 0 ? drawing : jobs.slice(0, 1)) {
      if (job.delivery.blame()) continue;
      this.jobs.delete(id);
      const message = 'The worker died while it drew this request, and again when it drew it anew.';
      job.emit({ kind: 'failed', error: new ServerError('worker_lost', message, { shouldRetry: false }) });
    }
  }

  private giveUp(exit: WorkerExit): void {
    const error =
      exit.kind === 'refused' ? exit.error : new ServerError('model_unavailable', `The worker cannot be started: ${describeExit(exit)}.`, { shouldRetry: false });
    this.dead = error;
    this.options.onState('failed');
    this.settle.reject(error);
    const jobs = [...this.jobs.values()];
    this.jobs.clear();
    for (const job of jobs) job.emit({ kind: 'failed', error });
  }

  private tick(): void {
    if (this.stopping !== null || this.dead !== null) return;
    this.clock.after(TICK_MS, () => {
      if (this.process !== null && this.reason === null && this.hang.tick()) {
        this.reason = { kind: 'hang' };
        this.process.kill();
      }
      this.tick();
    });
  }

  private takeId(): number {
    this.nextId += 1;
    return this.nextId;
  }
}
