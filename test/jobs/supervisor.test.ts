import { beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import type { Device } from '../../src/engine/device.js';
import type { EngineInfo } from '../../src/engine/native-types.js';
import type { FromWorker, ToWorker, WireEvent, WorkerSetup } from '../../src/jobs/ipc.js';
import { unitsPerImage, type JobEvent } from '../../src/jobs/job.js';
import type { MetricsSnapshot } from '../../src/metrics/merge.js';
import type { WorkerExit } from '../../src/jobs/restart-policy.js';
import { overall, Supervisor, type WorkerState, type WorkerStatus } from '../../src/jobs/supervisor.js';
import { toWireError } from '../../src/jobs/wire-error.js';
import type { WorkerListener } from '../../src/jobs/worker-process.js';
import { ManualClock } from '../support/manual-clock.js';
import { JOB_REQUEST, picture, STARTED, tokens } from '../support/manual-worker.js';

const ENGINE = { backend: 'cpu' } as EngineInfo;
const DEVICE: Device = { id: 'cpu', name: 'processor', memoryBytes: 1, reason: 'auto: no CUDA device' };
const DONE: WireEvent = { kind: 'succeeded', result: { timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };
const SETUP = { name: 'w', modelDirectories: ['/m'], device: 'auto', dtype: 'auto', threads: 1, sharedBy: 1, kvSequences: 1, maxBatch: 1, throughput: false, logLevel: 'silent' } as const;

/** A worker process driven by hand. */
class FakeProcess {
  readonly pid = 1;
  readonly sent: ToWorker[] = [];
  killed = false;

  constructor(readonly listener: WorkerListener) {}

  send(message: ToWorker): void {
    this.sent.push(structuredClone(message));
  }

  kill(): void {
    this.killed = true;
    this.listener.onExit({ kind: 'exit', code: null, signal: 'SIGKILL' });
  }

  say(message: FromWorker): void {
    this.listener.onMessage(structuredClone(message));
  }

  ready(engine = ENGINE, totalBlocks = 9): void {
    this.say({ kind: 'ready', engine, device: DEVICE, cudaVersion: '', models: [{ id: 'tiny', kv: { blockTokens: 16, totalBlocks }, memory: null, loadSeconds: 1 }] });
  }

  tell(id: number, ...events: JobEvent[]): void {
    this.say({ kind: 'events', events: events.map((event) => ({ id, event: event as WireEvent })) });
  }

  crash(): void {
    this.listener.onExit({ kind: 'exit', code: null, signal: 'SIGSEGV' });
  }

  get jobs(): (ToWorker & { kind: 'job' })[] {
    return this.sent.filter((message) => message.kind === 'job');
  }
}

let clock: ManualClock;
let processes: FakeProcess[];
let states: WorkerState[];
let workers: readonly WorkerStatus[];
let ended: WorkerExit[];
let redelivered: number;
let supervisor: Supervisor;

function supervise(setups: readonly WorkerSetup[]): void {
  clock = new ManualClock();
  [processes, states, ended, redelivered] = [[], [], [], 0];
  supervisor = new Supervisor({
    setups,
    spawn: (listener) => {
      const fake = new FakeProcess(listener);
      processes.push(fake);
      return fake;
    },
    hang: { silenceSeconds: 60, stepSeconds: 600 },
    capacityOf: ({ totalBlocks }) => ({ neededBlocks: 1, totalBlocks }),
    onState: (state, all) => {
      states.push(state);
      workers = all;
    },
    observer: {
      up: () => undefined,
      ended: (_worker, exit) => ended.push(exit),
      redelivered: () => {
        redelivered += 1;
      },
    },
    clock,
  });
}

beforeEach(() => {
  supervise([SETUP]);
});

const last = (): FakeProcess => processes.at(-1)!;
const scrape = (): Promise<MetricsSnapshot> => supervisor.metricsSources[0]!();

function start(request = JOB_REQUEST): { events: JobEvent[]; job: ReturnType<Supervisor['start']> } {
  const events: JobEvent[] = [];
  return { events, job: supervisor.start(request, (event) => events.push(event)) };
}

describe('Supervisor', () => {
  it('loads a worker, and gives it the jobs that came before it was up', async () => {
    expect(last().sent).toEqual([{ kind: 'load', setup: SETUP }]);
    expect(() => supervisor.capacityOf(JOB_REQUEST)).toThrow(expect.objectContaining({ code: 'model_loading' }));
    start();
    expect(last().jobs).toEqual([]);
    last().ready();
    expect(await supervisor.ready).toMatchObject({ engine: ENGINE, device: DEVICE, cudaVersion: '', models: [{ id: 'tiny' }] });
    expect(last().jobs).toMatchObject([{ request: JOB_REQUEST, watched: false }]);
    expect(supervisor.capacityOf(JOB_REQUEST)).toEqual({ neededBlocks: 1, totalBlocks: 9 });
    expect([states, redelivered]).toEqual([['ready'], 0]);
  });

  it('passes events to their jobs, and those of jobs that are over to nobody', () => {
    last().ready();
    const [a, b] = [start(), start()];
    const [first, second] = last().jobs;
    last().tell(first!.id, STARTED, tokens(0, 1));
    b.job.cancel('api');
    last().tell(second!.id, STARTED);
    last().tell(first!.id, picture(), DONE as JobEvent, tokens(1, 2));
    expect(a.events.map(({ kind }) => kind)).toEqual(['started', 'tokens', 'image', 'succeeded']);
    expect(b.events).toEqual([]);
    expect(last().sent.at(-1)).toEqual({ kind: 'cancel', id: second!.id, reason: 'api' });
    // Over: there is nothing to cancel.
    a.job.cancel('api');
    expect(last().sent.filter(({ kind }) => kind === 'cancel')).toHaveLength(1);
  });

  it('does not blame jobs that wait while others are drawn', () => {
    last().ready();
    const { events } = start();
    for (let i = 0; i < 5; i += 1) {
      start();
      last().tell(last().jobs.at(-1)!.id, STARTED);
      last().crash();
      clock.advance(10_000);
      last().ready();
    }
    expect(events).toEqual([]);
  });

  it('gives the jobs of a dead worker to the next one, in order, and what was seen is not told again', () => {
    last().ready();
    const [drawing, waiting, cancelled] = [start({ ...JOB_REQUEST, seeds: [1, 2] }), start(), start()];
    drawing.job.watch(true);
    last().tell(last().jobs[0]!.id, STARTED, tokens(0, 9), picture(1));
    cancelled.job.cancel('disconnect');
    last().crash();
    expect(processes).toHaveLength(1);
    clock.advance(0);
    expect(processes).toHaveLength(2);
    // What auto came to is asked for by name: another device would draw other bytes.
    expect(last().sent).toEqual([{ kind: 'load', setup: { ...SETUP, device: 'cpu' } }]);
    last().ready();
    expect(last().jobs).toMatchObject([{ request: { seeds: [1] }, watched: true }, { request: { seeds: [1] }, watched: false }]);
    last().tell(last().jobs[0]!.id, STARTED, tokens(0, 5), tokens(5, 12), picture(0), DONE as JobEvent);
    expect(drawing.events.map((event) => (event.kind === 'tokens' ? [event.from, event.to] : event.kind))).toEqual(['started', [0, 9], 'image', [9, 12], 'image', 'succeeded']);
    expect(waiting.events).toEqual([]);
    expect([redelivered, ended.length, states]).toEqual([1, 1, ['ready', 'ready']]);
  });

  it('fails a job under which two workers died; one that waited both times goes on', () => {
    last().ready();
    const [drawing, waiting] = [start(), start()];
    for (let i = 0; i < 2; i += 1) {
      last().tell(last().jobs[0]!.id, STARTED);
      last().crash();
      clock.advance(10_000);
      last().ready();
    }
    expect(drawing.events).toMatchObject([{ kind: 'started' }, { kind: 'failed', error: { code: 'worker_lost', status: 500, shouldRetry: false } }]);
    expect(waiting.events).toEqual([]);
    expect(last().jobs).toHaveLength(1);
  });

  it('blames the first in line when a worker dies before it says what it has begun', () => {
    last().ready();
    const [first, second] = [start(), start()];
    for (let i = 0; i < 2; i += 1) {
      last().crash();
      clock.advance(10_000);
      last().ready();
    }
    expect(first.events).toMatchObject([{ kind: 'failed', error: { code: 'worker_lost' } }]);
    expect(second.events).toEqual([]);
  });

  it('waits longer after each death, until a job is done', () => {
    last().ready();
    for (let i = 0; i < 4; i += 1) start();
    const crashAfter = (delay: number): void => {
      const before = processes.length;
      last().crash();
      if (delay > 0) clock.advance(delay - 1);
      expect(processes).toHaveLength(before);
      clock.advance(delay > 0 ? 1 : 0);
      expect(processes).toHaveLength(before + 1);
      last().ready();
    };
    for (const delay of [0, 100, 200]) crashAfter(delay);
    last().tell(last().jobs[0]!.id, DONE as JobEvent);
    crashAfter(0);
  });

  it('refuses new jobs while no replacement comes up', () => {
    last().ready();
    last().crash();
    clock.advance(0);
    expect(states).toEqual(['ready']);
    last().crash();
    expect(states).toEqual(['ready', 'loading']);
    clock.advance(100);
    last().ready();
    expect(states.at(-1)).toBe('ready');
  });

  it('kills a worker that is silent or lost in a step, and only such', () => {
    last().ready();
    for (let i = 0; i < 100; i += 1) {
      last().say({ kind: 'alive', stepSeconds: 6 * i, loaded: 1 });
      clock.advance(1000);
    }
    expect(processes).toHaveLength(1);
    clock.advance(60_000);
    expect([processes[0]!.killed, ended]).toEqual([true, [{ kind: 'hang' }]]);
    last().ready();
    last().say({ kind: 'alive', stepSeconds: 601, loaded: 1 });
    clock.advance(1000);
    expect(processes[1]!.killed).toBe(true);
  });

  it('reports a model that cannot be loaded, and fails what waits for it', async () => {
    const { events } = start();
    last().say({ kind: 'refused', error: toWireError(new ServerError('model_unavailable', 'no weights')) });
    last().listener.onExit({ kind: 'exit', code: 1, signal: null });
    await expect(supervisor.ready).rejects.toMatchObject({ code: 'model_unavailable', message: 'no weights' });
    expect(events).toMatchObject([{ kind: 'failed', error: { code: 'model_unavailable' } }]);
    clock.advance(1e6);
    expect([processes.length, states]).toEqual([1, ['failed']]);
    expect(() => start()).toThrow('no weights');
  });

  it('tells how much of the weights is loaded, and is loading until it is up', () => {
    for (const loaded of [0, 0.25, 0.25, 0.5]) last().say({ kind: 'alive', stepSeconds: 0, loaded });
    expect(workers).toEqual([{ name: 'w', status: 'loading', loaded: 0.5, device: null }]);
    expect(states).toEqual(['loading', 'loading']);
    last().ready();
    last().say({ kind: 'alive', stepSeconds: 0, loaded: 1 });
    expect([states.length, workers]).toEqual([3, [{ name: 'w', status: 'ready', loaded: 1, device: DEVICE }]]);
    last().crash();
    clock.advance(0);
    last().say({ kind: 'alive', stepSeconds: 0, loaded: 0.1 });
    expect(workers[0]).toMatchObject({ status: 'ready', loaded: 0.1 });
  });

  it('gives up on a worker that crashes five times before it is up', async () => {
    for (let i = 0; i < 5; i += 1) {
      last().crash();
      clock.advance(10_000);
    }
    await expect(supervisor.ready).rejects.toMatchObject({ code: 'model_unavailable' });
    expect(processes).toHaveLength(5);
  });

  it('asks the worker for its metrics, and answers none without one', async () => {
    expect(await scrape()).toEqual([]);
    last().ready();
    const asked = scrape();
    const { id } = last().sent.at(-1) as ToWorker & { kind: 'metrics' };
    last().say({ kind: 'metrics', id, metrics: [] });
    expect(await asked).toEqual([]);
    const unanswered = scrape();
    last().crash();
    expect(await unanswered).toEqual([]);
    expect(await scrape()).toEqual([]);
  });

  it('stops its worker, by force after five seconds, and starts no other', async () => {
    last().ready();
    const stopped = supervisor.stop();
    expect(last().sent.at(-1)).toEqual({ kind: 'stop' });
    clock.advance(4999);
    expect(last().killed).toBe(false);
    clock.advance(1);
    await stopped;
    expect(last().killed).toBe(true);
    clock.advance(1e6);
    expect([processes.length, ended]).toEqual([1, []]);
  });

  it('stops while no worker is there', async () => {
    last().ready();
    last().crash();
    await supervisor.stop();
    clock.advance(1e6);
    expect(processes).toHaveLength(1);
  });
});

describe('Supervisor of two workers', () => {
  beforeEach(() => {
    supervise([{ ...SETUP, name: 'a', device: 'cuda:0' }, { ...SETUP, name: 'b', device: 'cuda:1' }]);
  });

  const seat = (index: number): FakeProcess => processes[index]!;
  const statuses = (): string[] => workers.map(({ name, status }) => `${name} ${status}`);

  it('starts both, and is ready with the first', async () => {
    expect(processes.map(({ sent }) => sent)).toMatchObject([[{ kind: 'load', setup: { name: 'a', device: 'cuda:0' } }], [{ kind: 'load', setup: { name: 'b', device: 'cuda:1' } }]]);
    const early = start();
    seat(1).ready();
    await supervisor.ready;
    expect(seat(1).jobs).toHaveLength(1);
    expect([states, statuses()]).toEqual([['ready'], ['a loading', 'b ready']]);
    seat(0).ready();
    await supervisor.complete;
    expect(statuses()).toEqual(['a ready', 'b ready']);
    expect([seat(0).jobs, early.events]).toEqual([[], []]);
  });

  it('gives jobs to whoever has less to draw, and speaks of each to its worker alone', () => {
    for (const worker of processes) worker.ready();
    const large = start({ ...JOB_REQUEST, seeds: [1, 2, 3] });
    const [small, next] = [start(), start()];
    expect([seat(0).jobs.length, seat(1).jobs.length]).toEqual([1, 2]);
    const id = seat(1).jobs[0]!.id;
    small.job.watch(true);
    seat(1).tell(id, STARTED, tokens(0, 3));
    expect(small.events.map(({ kind }) => kind)).toEqual(['started', 'tokens']);
    expect([supervisor.runningOn('a', 'tiny'), supervisor.runningOn('b', 'tiny')]).toEqual([0, 1]);
    small.job.cancel('api');
    expect(seat(1).sent.slice(-2)).toEqual([{ kind: 'watch', id, watched: true }, { kind: 'cancel', id, reason: 'api' }]);
    next.job.cancel('api');
    large.job.cancel('api');
    expect(seat(0).sent.at(-1)).toMatchObject({ kind: 'cancel', id: seat(0).jobs[0]!.id });
    expect(seat(0).sent.filter(({ kind }) => kind === 'watch' || kind === 'cancel')).toHaveLength(1);
    expect(supervisor.runningOn('b', 'tiny')).toBe(0);
  });

  it('counts what is left: a job that is nearly done weighs little', () => {
    for (const worker of processes) worker.ready();
    start({ ...JOB_REQUEST, seeds: [1, 2] });
    start();
    const units = unitsPerImage(JOB_REQUEST);
    seat(0).tell(seat(0).jobs[0]!.id, STARTED, tokens(0, units), { ...tokens(0, units - 1), image: 1 });
    start();
    expect([seat(0).jobs.length, seat(1).jobs.length]).toEqual([2, 1]);
  });

  it('moves the jobs of a dead worker to the other at once, and the dead one is replaced beside it', () => {
    for (const worker of processes) worker.ready();
    const { events, job } = start();
    seat(0).tell(seat(0).jobs[0]!.id, STARTED, tokens(0, 3));
    job.watch(true);
    seat(0).crash();
    expect(seat(1).jobs).toMatchObject([{ watched: true }]);
    expect([redelivered, states.at(-1), ended.length]).toEqual([1, 'ready', 1]);
    const { id } = seat(1).jobs[0]!;
    seat(1).tell(id, STARTED, tokens(0, 4), picture(0), DONE as JobEvent);
    expect(events.map((event) => (event.kind === 'tokens' ? [event.from, event.to] : event.kind))).toEqual(['started', [0, 3], [3, 4], 'image', 'succeeded']);
    clock.advance(0);
    expect(processes).toHaveLength(3);
    expect(last().sent).toMatchObject([{ kind: 'load', setup: { name: 'a', device: 'cpu' } }]);
    last().ready();
    start();
    expect(last().jobs).toHaveLength(1);
  });

  it('moves jobs that only wait to a worker that is back, oldest first, until neither has less to do', () => {
    seat(0).ready();
    const drawn = start();
    const waiting = [start(), start(), start()];
    const [first, second] = seat(0).jobs;
    seat(0).tell(first!.id, STARTED);
    waiting[0]!.job.watch(true);
    seat(1).ready();
    expect(seat(1).jobs.map(({ id, watched }) => [id, watched])).toEqual([[second!.id, true], [seat(0).jobs[2]!.id, false]]);
    expect(seat(0).sent.filter(({ kind }) => kind === 'cancel')).toEqual(seat(1).jobs.map(({ id }) => ({ kind: 'cancel', id, reason: 'moved' })));
    expect(redelivered).toBe(0);
    // The worker it left had begun it, and had not heard of the move.
    seat(0).tell(second!.id, STARTED, tokens(0, 2), picture(0), DONE as JobEvent);
    expect(waiting[0]!.events).toEqual([]);
    seat(1).tell(second!.id, STARTED, tokens(0, 1), picture(0), DONE as JobEvent);
    expect(waiting[0]!.events.map(({ kind }) => kind)).toEqual(['started', 'tokens', 'image', 'succeeded']);
    expect(drawn.events.map(({ kind }) => kind)).toEqual(['started']);
  });

  it('moves a waiting job to a worker that is done, and none that is being drawn', () => {
    for (const worker of processes) worker.ready();
    const long = start({ ...JOB_REQUEST, seeds: [1, 2, 3, 4] });
    const small = [start(), start(), start(), start()];
    start();
    const last = seat(0).jobs[1]!.id;
    seat(0).tell(seat(0).jobs[0]!.id, STARTED);
    expect([seat(0).jobs.length, seat(1).jobs.length]).toEqual([2, 4]);
    for (const { id } of [...seat(1).jobs]) seat(1).tell(id, STARTED, tokens(0, 1), picture(0), DONE as JobEvent);
    expect(seat(1).jobs.map(({ id }) => id)).toContain(last);
    expect(seat(1).jobs).toHaveLength(5);
    expect(seat(0).sent.filter(({ kind }) => kind === 'cancel')).toEqual([{ kind: 'cancel', id: last, reason: 'moved' }]);
    expect([long.events.map(({ kind }) => kind), small.every(({ events }) => events.at(-1)?.kind === 'succeeded')]).toEqual([['started'], true]);
  });

  it('goes on with one when the other can not be brought up again, and fails with the last', () => {
    for (const worker of processes) worker.ready();
    const [first, second] = [start(), start()];
    const refuse = (worker: FakeProcess): void => {
      worker.say({ kind: 'refused', error: toWireError(new ServerError('model_unavailable', 'no weights')) });
      worker.listener.onExit({ kind: 'exit', code: 1, signal: null });
    };
    seat(0).crash();
    clock.advance(0);
    refuse(last());
    expect([states.at(-1), statuses()]).toEqual(['ready', ['a failed', 'b ready']]);
    expect(seat(1).jobs).toHaveLength(2);
    expect(supervisor.capacityOf(JOB_REQUEST).totalBlocks).toBe(9);
    seat(1).crash();
    clock.advance(0);
    refuse(last());
    // The first in line was so under both deaths.
    expect([first, second].map(({ events }) => events.at(-1))).toMatchObject([{ error: { code: 'worker_lost' } }, { error: { code: 'model_unavailable' } }]);
    expect(states.at(-1)).toBe('failed');
  });

  it('says at the start that one cannot be brought up, also when the other is', async () => {
    seat(0).ready();
    seat(1).say({ kind: 'refused', error: toWireError(new ServerError('model_unavailable', 'no device')) });
    seat(1).listener.onExit({ kind: 'exit', code: 1, signal: null });
    await supervisor.ready;
    await expect(supervisor.complete).rejects.toMatchObject({ message: 'no device' });
  });

  it('refuses a worker that would draw other bytes', async () => {
    seat(0).ready({ ...ENGINE, isa: 'sm_90' });
    seat(1).ready({ ...ENGINE, isa: 'sm_80' });
    expect(seat(1).killed).toBe(true);
    await expect(supervisor.complete).rejects.toMatchObject({ code: 'model_unavailable', message: expect.stringMatching(/^b .* has isa sm_80, a .* has sm_90/) as string });
    expect(statuses()).toEqual(['a ready', 'b failed']);
  });

  it('admits what fits into the smaller pool', () => {
    seat(0).ready(ENGINE, 9);
    seat(1).ready(ENGINE, 4);
    expect(supervisor.capacityOf(JOB_REQUEST).totalBlocks).toBe(4);
  });

  it('stops both', async () => {
    for (const worker of processes) worker.ready();
    const stopped = supervisor.stop();
    for (const worker of [...processes]) {
      expect(worker.sent.at(-1)).toEqual({ kind: 'stop' });
      worker.listener.onExit({ kind: 'exit', code: 0, signal: null });
    }
    await stopped;
    clock.advance(1e6);
    expect(processes).toHaveLength(2);
  });
});

describe('overall', () => {
  it('is the best of all', () => {
    expect(overall(['failed', 'loading', 'ready'])).toBe('ready');
    expect(overall(['failed', 'loading'])).toBe('loading');
    expect(overall(['failed', 'failed'])).toBe('failed');
  });
});
