import type { Device } from '../engine/device.js';
import { ServerError } from '../errors.js';
import type { MetricsSnapshot } from '../metrics/merge.js';
import type { Clock } from './clock.js';
import { HangWatch, type HangLimits } from './hang-watch.js';
import type { FromWorker, ToWorker, WireEvent, WorkerReady, WorkerSetup } from './ipc.js';
import { afterExit, describeExit, type WorkerExit } from './restart-policy.js';
import { fromWireError } from './wire-error.js';
import type { SpawnWorker, WorkerProcess } from './worker-process.js';

/** `loading`: jobs are better refused than kept waiting. A worker that is replaced at once stays `ready`. */
export type WorkerState = 'loading' | 'ready' | 'failed';

export interface SeatOptions {
  setup: WorkerSetup;
  spawn: SpawnWorker;
  hang: HangLimits;
  clock: Clock;
}

/** What becomes of a seat's workers, told to whoever has the jobs. */
export interface SeatListener {
  /** It has loaded. An error: it must not draw, and no other will be tried. */
  accept(ready: WorkerReady): ServerError | null;
  /** More of the weights are read. */
  onLoading(): void;
  onUp(pid: number | undefined): void;
  /** Its process is gone, for whatever reason. */
  onDown(): void;
  onEvents(events: readonly { id: number; event: WireEvent }[]): void;
  /** After `onDown`, unless it was asked to stop. `givenUp`: there will be no other, and why. */
  onLost(exit: WorkerExit, summary: string, wasUp: boolean, givenUp: ServerError | null): void;
}

const TICK_MS = 1000;
/** For a worker that was asked to stop; it has nothing to finish but its step. */
const STOP_LIMIT_MS = 5000;

/** One device's place: keeps a worker process in it, and replaces it when it dies or hangs. It knows no jobs. */
export class WorkerSeat {
  state: WorkerState = 'loading';
  isUp = false;
  /** Share of the weights that its worker has read; 1 once it is up. */
  loaded = 0;
  /** What the last worker said when it was up; null: none ever was. */
  ready: WorkerReady | null = null;
  private setup: WorkerSetup;
  private process: WorkerProcess | null = null;
  private hang: HangWatch;
  private failures = 0;
  private readonly scrapes = new Map<number, (metrics: MetricsSnapshot) => void>();
  private nextScrape = 1;
  /** Why the current process will end, if we know before it does. */
  private reason: WorkerExit | null = null;
  private stopping: (() => void) | null = null;

  constructor(
    private readonly options: SeatOptions,
    private readonly listener: SeatListener,
  ) {
    this.setup = options.setup;
    this.hang = new HangWatch(options.hang);
    this.launch();
    this.tick();
  }

  get name(): string {
    return this.setup.name;
  }

  /** With the first worker's reason: those after it were asked for by name. */
  get device(): Device | null {
    return this.ready?.device ?? null;
  }

  /** Lost when no worker is up. */
  send(message: ToWorker): void {
    if (this.isUp) this.process?.send(message);
  }

  /** A job came to its end: the worker is good. */
  worked(): void {
    this.failures = 0;
  }

  /** The worker's own metrics; none when it is not up, or dies meanwhile. */
  metrics(): Promise<MetricsSnapshot> {
    if (!this.isUp) return Promise.resolve([]);
    this.nextScrape += 1;
    const id = this.nextScrape;
    this.send({ kind: 'metrics', id });
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
      this.options.clock.after(STOP_LIMIT_MS, () => this.process?.kill());
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
        this.listener.onEvents(message.events);
        break;
      case 'alive':
        this.hang.inStep(message.stepSeconds);
        this.onLoading(message.loaded);
        break;
      case 'metrics':
        this.scrapes.get(message.id)?.(message.metrics);
        this.scrapes.delete(message.id);
        break;
    }
  }

  private onLoading(loaded: number): void {
    if (this.isUp || loaded === this.loaded) return;
    this.loaded = loaded;
    this.listener.onLoading();
  }

  private onReady(ready: WorkerReady): void {
    const error = this.listener.accept(ready);
    if (error !== null) {
      this.reason = { kind: 'refused', error };
      this.process?.kill();
      return;
    }
    // What `auto` came to stays: another device draws other bytes.
    this.setup = { ...this.setup, device: ready.device.id };
    this.ready = { ...ready, device: this.ready?.device ?? ready.device };
    this.isUp = true;
    this.loaded = 1;
    this.state = 'ready';
    this.listener.onUp(this.process?.pid);
  }

  private onExit(exit: WorkerExit): void {
    const wasUp = this.isUp;
    this.process = null;
    this.isUp = false;
    this.loaded = 0;
    for (const resolve of this.scrapes.values()) resolve([]);
    this.scrapes.clear();
    this.listener.onDown();
    if (this.stopping !== null) {
      this.stopping();
      return;
    }
    this.failures += 1;
    const summary = describeExit(exit);
    const verdict = afterExit(exit, { everReady: this.ready !== null, failures: this.failures });
    if (verdict.kind === 'give_up') {
      this.state = 'failed';
      this.listener.onLost(exit, summary, wasUp, errorOf(exit, summary));
      return;
    }
    if (!wasUp) this.state = 'loading';
    this.listener.onLost(exit, summary, wasUp, null);
    this.options.clock.after(verdict.delayMs, () => {
      this.launch();
    });
  }

  private tick(): void {
    if (this.stopping !== null || this.state === 'failed') return;
    this.options.clock.after(TICK_MS, () => {
      if (this.process !== null && this.reason === null && this.hang.tick()) {
        this.reason = { kind: 'hang' };
        this.process.kill();
      }
      this.tick();
    });
  }
}

function errorOf(exit: WorkerExit, summary: string): ServerError {
  return exit.kind === 'refused' ? exit.error : new ServerError('model_unavailable', `The worker cannot be started: ${summary}.`, { shouldRetry: false });
}
