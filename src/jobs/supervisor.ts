import type { Device } from '../engine/device.js';
import { ServerError } from '../errors.js';
import type { MetricsSource } from '../metrics/merge.js';
import { disagreement } from './agreement.js';
import { systemClock, type Clock } from './clock.js';
import { Delivery } from './delivery.js';
import type { HangLimits } from './hang-watch.js';
import type { KvMemory, WireEvent, WorkerReady, WorkerSetup } from './ipc.js';
import { isFinal, nextStatus, unitsPerImage, type JobEvent, type JobRequest } from './job.js';
import type { JobWorker, RunningJob } from './job-worker.js';
import type { WorkerExit } from './restart-policy.js';
import { isBetterAt, route } from './routing.js';
import type { SpawnWorker } from './worker-process.js';
import { WorkerSeat, type WorkerState } from './worker-seat.js';

export type { WorkerState } from './worker-seat.js';

/** One worker, for those who watch the server. */
export interface WorkerStatus {
  name: string;
  status: WorkerState;
  /** Share of the weights that are loaded; below 1 while none of its models can draw. */
  loaded: number;
  /** Null until it was up once. */
  device: Device | null;
}

export interface SupervisorOptions {
  /** One for each device; they differ in it and in their name. */
  setups: readonly WorkerSetup[];
  spawn: SpawnWorker;
  hang: HangLimits;
  capacityOf: (kv: KvMemory, request: JobRequest) => { neededBlocks: number; totalBlocks: number };
  /** `ready` while one can draw, or is replaced at once; `failed` when none will ever again. */
  onState: (state: WorkerState, workers: readonly WorkerStatus[]) => void;
  observer: SupervisorObserver;
  clock?: Clock;
}

/** For metrics and log. */
export interface SupervisorObserver {
  up(worker: string, isUp: boolean, pid: number | undefined, device: Device | null): void;
  ended(worker: string, exit: WorkerExit, summary: string, isReplaced: boolean): void;
  /** A job is drawn again, because the worker that drew it died. */
  redelivered(): void;
}

interface Job {
  request: JobRequest;
  emit: (event: JobEvent) => void;
  delivery: Delivery;
  watched: boolean;
  /** Who has it; null: nobody yet, or he is gone. */
  seat: WorkerSeat | null;
  /** Whose it was last. */
  worker: string | null;
  /** Units of its pictures that were not drawn yet. */
  left: number;
}

/** The workers of all devices and the jobs they draw: who gets which, and who gets those of one that died. */
export class Supervisor implements JobWorker {
  /** A worker is up; rejects when none can be brought up. */
  readonly ready: Promise<WorkerReady>;
  /** All were up; rejects as soon as one of them cannot be brought up, whose device or model was then wrong from the start. */
  readonly complete: Promise<void>;
  private readonly clock: Clock;
  private readonly seats: readonly WorkerSeat[];
  /** In the order of submission, which is the order of replay. */
  private readonly jobs = new Map<number, Job>();
  private nextId = 1;
  /** Set once there will never be a worker again. */
  private dead: ServerError | null = null;
  private settle!: { resolve: (ready: WorkerReady) => void; reject: (error: ServerError) => void };
  private settleAll!: { resolve: () => void; reject: (error: ServerError) => void };

  constructor(private readonly options: SupervisorOptions) {
    this.clock = options.clock ?? systemClock;
    this.ready = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    this.complete = new Promise((resolve, reject) => {
      this.settleAll = { resolve, reject };
    });
    for (const promise of [this.ready, this.complete]) promise.catch(() => undefined);
    this.seats = options.setups.map((setup) => this.makeSeat(setup));
  }

  start(request: JobRequest, emit: (event: JobEvent) => void): RunningJob {
    if (this.dead !== null) throw this.dead;
    this.nextId += 1;
    const id = this.nextId;
    const left = request.seeds.length * unitsPerImage(request);
    const job: Job = { request, emit, delivery: new Delivery(request, this.clock.now()), watched: false, seat: null, worker: null, left };
    this.jobs.set(id, job);
    this.assign(id, job);
    return {
      cancel: (reason) => {
        if (!this.jobs.delete(id)) return;
        job.seat?.send({ kind: 'cancel', id, reason });
        this.spread();
      },
      watch: (watched) => {
        job.watched = watched;
        if (this.jobs.has(id)) job.seat?.send({ kind: 'watch', id, watched });
      },
    };
  }

  /** Against the smallest pool: the job may go to any worker. */
  capacityOf(request: JobRequest): { neededBlocks: number; totalBlocks: number } {
    const loaded = this.seats.flatMap(({ ready, state }) => (ready === null || state === 'failed' ? [] : [ready]));
    if (loaded.length === 0) throw new ServerError('model_loading', 'The model is loading.', { retryAfterSeconds: 1 });
    const kvs = loaded.flatMap(({ models }) => models.filter(({ id }) => id === request.model)).map(({ kv }) => kv);
    const [first, ...others] = kvs;
    if (first === undefined) throw new ServerError('model_not_found', `The worker has no model '${request.model}'.`, { param: 'model' });
    const smallest = others.reduce((least, kv) => (kv.totalBlocks < least.totalBlocks ? kv : least), first);
    return this.options.capacityOf(smallest, request);
  }

  /** One of each worker: one that hangs does not hold up the others'. */
  get metricsSources(): readonly MetricsSource[] {
    return this.seats.map((seat) => () => seat.metrics());
  }

  /** Jobs of which it has drawn something, or had when it died. */
  runningOn(worker: string, model: string): number {
    let count = 0;
    for (const job of this.jobs.values()) if (job.worker === worker && job.request.model === model && job.delivery.wasStarted) count += 1;
    return count;
  }

  async stop(): Promise<void> {
    await Promise.all(this.seats.map((seat) => seat.stop()));
  }

  private makeSeat(setup: WorkerSetup): WorkerSeat {
    const { spawn, hang, observer } = this.options;
    const seat: WorkerSeat = new WorkerSeat(
      { setup, spawn, hang, clock: this.clock },
      {
        accept: (ready) => disagreement(setup.name, ready, this.seats.flatMap((other) => (other === seat || other.ready === null ? [] : [{ name: other.name, ready: other.ready }]))),
        onLoading: () => {
          this.tellState();
        },
        onUp: (pid) => {
          observer.up(setup.name, true, pid, seat.device);
          this.onUp(seat);
        },
        onDown: () => {
          observer.up(setup.name, false, undefined, seat.device);
        },
        onEvents: (events) => {
          for (const { id, event } of events) this.onEvent(seat, id, event);
        },
        onLost: (exit, summary, wasUp, givenUp) => {
          observer.ended(setup.name, exit, summary, givenUp === null);
          if (wasUp) this.dropLost(seat);
          this.moveJobs(seat);
          if (givenUp !== null) this.giveUp(seat, givenUp);
          else if (!wasUp) this.tellState();
        },
      },
    );
    return seat;
  }

  private onUp(seat: WorkerSeat): void {
    if (seat.ready !== null) this.settle.resolve(seat.ready);
    if (this.seats.every(({ ready }) => ready !== null)) this.settleAll.resolve();
    this.tellState();
    for (const [id, job] of this.jobs) if (job.seat === null) this.assign(id, job);
    this.spread();
  }

  /** To the worker that has least to do; while none is up, it waits for the first that is. */
  private assign(id: number, job: Job): void {
    const seat = this.freest(job);
    if (seat === undefined) return;
    if (job.delivery.isRepeated) this.options.observer.redelivered();
    this.give(id, job, seat);
  }

  private give(id: number, job: Job, seat: WorkerSeat): void {
    job.seat = seat;
    job.worker = seat.name;
    seat.send({ kind: 'job', id, request: job.delivery.attempt(this.clock.now()), watched: job.watched });
  }

  /**
   * Jobs that only wait go to a worker that has less to do: one has come back, or is done with what it had. The worker
   * they leave may just have begun one; what it tells of it is dropped (`onEvent`), and the other draws the same bytes.
   */
  private spread(): void {
    if (this.seats.length === 1) return;
    for (const [id, job] of this.jobs) {
      const { seat: from } = job;
      if (from === null || job.delivery.isDrawing) continue;
      const to = this.freest(job);
      if (to === undefined || to === from || !isBetterAt(job.request.model, job.left, { left: this.leftOn(from) }, { left: this.leftOn(to) })) continue;
      from.send({ kind: 'cancel', id, reason: 'moved' });
      this.give(id, job, to);
    }
  }

  private freest(job: Job): WorkerSeat | undefined {
    const up = this.seats.filter(({ isUp }) => isUp);
    return up.length <= 1 ? up[0] : up[route(job.request.model, up.map((seat) => ({ left: this.leftOn(seat) })))];
  }

  private leftOn(seat: WorkerSeat): Map<string, number> {
    const left = new Map<string, number>();
    for (const job of this.jobs.values()) if (job.seat === seat) left.set(job.request.model, (left.get(job.request.model) ?? 0) + job.left);
    return left;
  }

  /** Of a job that was cancelled or given to another meanwhile, events may still be on their way. */
  private onEvent(seat: WorkerSeat, id: number, wire: WireEvent): void {
    const job = this.jobs.get(id);
    if (job === undefined || job.seat !== seat) return;
    const event = job.delivery.accept(wire);
    if (event === null) return;
    if (event.kind === 'tokens') job.left -= event.to - event.from;
    if (event.kind === 'succeeded') seat.worked();
    const isOver = isFinal(nextStatus('running', event));
    if (isOver) this.jobs.delete(id);
    job.emit(event);
    if (isOver) this.spread();
  }

  /**
   * Ends the jobs under which workers died too often. Suspects are those that were being drawn; when nothing is known
   * to have started, the one that was first in line, so that nothing can kill workers for ever. Jobs that only waited
   * are not to blame, however often workers die.
   */
  private dropLost(seat: WorkerSeat): void {
    const jobs = [...this.jobs].filter(([, job]) => job.seat === seat);
    const drawing = jobs.filter(([, { delivery }]) => delivery.isDrawing);
    for (const [id, job] of drawing.length > 0 ? drawing : jobs.slice(0, 1)) {
      if (job.delivery.blame()) continue;
      this.jobs.delete(id);
      const message = 'The worker died while it drew this request, and again when it drew it anew.';
      job.emit({ kind: 'failed', error: new ServerError('worker_lost', message, { shouldRetry: false }) });
    }
  }

  private moveJobs(from: WorkerSeat): void {
    const homeless = [...this.jobs].filter(([, job]) => job.seat === from);
    for (const [, job] of homeless) job.seat = null;
    for (const [id, job] of homeless) this.assign(id, job);
  }

  /** The others go on. */
  private giveUp(seat: WorkerSeat, error: ServerError): void {
    if (seat.ready === null) this.settleAll.reject(error);
    if (this.seats.some(({ state }) => state !== 'failed')) {
      this.tellState();
      return;
    }
    this.dead = error;
    this.tellState();
    this.settle.reject(error);
    const jobs = [...this.jobs.values()];
    this.jobs.clear();
    for (const job of jobs) job.emit({ kind: 'failed', error });
  }

  private tellState(): void {
    const workers = this.seats.map(({ name, state, loaded, device }) => ({ name, status: state, loaded, device }));
    this.options.onState(overall(workers.map(({ status }) => status)), workers);
  }
}

/** Of all workers together. */
export function overall(states: readonly WorkerState[]): WorkerState {
  if (states.includes('ready')) return 'ready';
  return states.includes('loading') ? 'loading' : 'failed';
}
