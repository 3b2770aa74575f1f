import { beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { EmbeddedBackend, type EmbeddedOptions } from '../../src/jobs/embedded.js';
import { ManualClock } from '../support/manual-clock.js';
import { DONE, JOB_REQUEST, ManualWorker, picture, STARTED, tokens } from '../support/manual-worker.js';

let clock: ManualClock;
let worker: ManualWorker;

beforeEach(() => {
  clock = new ManualClock();
  worker = new ManualWorker();
});

const newBackend = (options: Partial<EmbeddedOptions> = {}): EmbeddedBackend => new EmbeddedBackend(worker, { capacity: 4, clock, ...options });

describe('EmbeddedBackend', () => {
  it('refuses what does not fit into the queue; running jobs do not count', () => {
    const backend = newBackend({ capacity: 2 });
    backend.submit(JOB_REQUEST);
    backend.submit(JOB_REQUEST);
    expect(() => backend.submit(JOB_REQUEST)).toThrow(expect.objectContaining({ code: 'queue_full' }));
    worker.emits[0]!(STARTED);
    expect(backend.queueOf('tiny')).toEqual({ waiting: 1, running: 1, capacity: 2 });
    backend.submit(JOB_REQUEST);
    worker.emits[0]!(DONE);
    expect(backend.queueOf('tiny')).toEqual({ waiting: 2, running: 0, capacity: 2 });
  });

  it('counts the jobs ahead of one that waits', () => {
    const backend = newBackend();
    const [first, second, third] = [1, 2, 3].map(() => backend.submit(JOB_REQUEST).job);
    expect([first!.position, second!.position, third!.position]).toEqual([0, 1, 2]);
    worker.emits[0]!(STARTED);
    second!.cancel('api');
    expect([first!.position, second!.position, third!.position]).toEqual([0, 0, 0]);
  });

  it('turns a worker that cannot start into a failed job', async () => {
    worker.start = () => {
      throw new Error('no');
    };
    const backend = newBackend();
    const { job } = backend.submit(JOB_REQUEST);
    await expect(job.result).rejects.toMatchObject({ code: 'internal_error' });
    expect(backend.queueOf('tiny').waiting).toBe(0);
    expect(backend.get(job.id)).toBe(job);
  });

  it('logs events in order until the end, and ignores what comes later', async () => {
    const { job } = newBackend().submit(JOB_REQUEST);
    for (const event of [STARTED, tokens(0, 1), picture(), DONE, tokens(1, 2)]) worker.emits[0]!(event);
    worker.emits[0]!({ kind: 'failed', error: new ServerError('engine_error', 'late') });
    expect(await job.result).toMatchObject({ images: [] });
    expect(job.log.since(0).entries.map(({ event }) => event.kind)).toEqual(['queued', 'started', 'tokens', 'image', 'succeeded']);
    expect([job.status, job.log.closed, job.createdAt]).toEqual(['succeeded', true, clock.now()]);
  });

  it('gives the logs of one process one epoch without a hyphen', () => {
    const backend = newBackend();
    const [a, b] = [backend.submit(JOB_REQUEST).job, backend.submit(JOB_REQUEST).job];
    expect(a.log.epoch).toBe(b.log.epoch);
    expect(a.log.epoch).toMatch(/^[0-9a-f]+$/);
    expect(newBackend().submit(JOB_REQUEST).job.log.epoch).not.toBe(a.log.epoch);
  });

  it('tells the worker while somebody watches', () => {
    const { job } = newBackend().submit(JOB_REQUEST);
    const leave = [job.log.subscribe(() => undefined), job.log.subscribe(() => undefined)];
    for (const stop of leave) stop();
    expect(worker.watched).toEqual([true, false]);
  });

  it('shows an observer each event with the status before it', () => {
    const seen: string[] = [];
    const { job } = newBackend({ observe: (_job, event, before) => seen.push(`${before} ${event.kind}`) }).submit(JOB_REQUEST);
    worker.emits[0]!(STARTED);
    job.cancel('timeout');
    expect(seen).toEqual(['queued queued', 'queued started', 'running cancelled']);
  });
});

describe('the end of a job', () => {
  it('cancels once, and not after the end', async () => {
    const backend = newBackend();
    const { job } = backend.submit(JOB_REQUEST);
    job.cancel('api');
    job.cancel('api');
    expect(worker.cancelled).toBe(1);
    await expect(job.result).rejects.toMatchObject({ code: 'cancelled' });
    expect(job.log.since(1).entries).toMatchObject([{ event: { kind: 'cancelled', reason: 'api' } }]);
    const { job: done } = backend.submit(JOB_REQUEST);
    worker.emits[1]!(DONE);
    done.cancel('api');
    expect([worker.cancelled, done.status]).toEqual([1, 'succeeded']);
  });

  it('comes as a cancel by disconnect when the last one who wanted it leaves', () => {
    const { job } = newBackend().submit(JOB_REQUEST);
    const [plain, patient] = [job.attach('cancel'), job.attach({ graceMs: 30_000 })];
    plain();
    patient();
    clock.advance(29_999);
    expect(job.status).toBe('queued');
    clock.advance(1);
    expect(job.log.since(1).entries).toMatchObject([{ event: { kind: 'cancelled', reason: 'disconnect' } }]);
  });

  it('leaves finished jobs to be asked for until the retention is over', () => {
    const backend = newBackend();
    const { job } = backend.submit(JOB_REQUEST);
    clock.advance(3_600_000);
    expect(backend.get(job.id)).toBe(job);
    worker.emits[0]!(DONE);
    clock.advance(599_999);
    expect(backend.get(job.id)).toBe(job);
    clock.advance(1);
    expect(backend.get(job.id)).toBeNull();
    expect(backend.get('nonsense')).toBeNull();
  });

  it('drains: finishes what runs, refuses what comes, fails what is left after the grace', async () => {
    const backend = newBackend();
    const [finishes, hangs] = [backend.submit(JOB_REQUEST).job, backend.submit(JOB_REQUEST, { idempotencyKey: 'k' }).job];
    const drained = backend.drain(20);
    expect(() => backend.submit(JOB_REQUEST)).toThrow(expect.objectContaining({ code: 'draining' }));
    // Who only joins adds no work.
    expect(backend.submit(JOB_REQUEST, { idempotencyKey: 'k' })).toEqual({ job: hangs, joined: true });
    worker.emits[0]!(DONE);
    await drained;
    expect(finishes.status).toBe('succeeded');
    await expect(hangs.result).rejects.toMatchObject({ code: 'draining', status: 503 });
    expect(worker.stopped).toBe(true);
  });
});

describe('repeated submissions', () => {
  const KEYED = { idempotencyKey: 'k', fingerprint: 'f' };

  it('are one job with an equal key, running or done', () => {
    const backend = newBackend({ capacity: 1 });
    const { job, joined } = backend.submit(JOB_REQUEST, KEYED);
    expect(joined).toBe(false);
    // The queue is full, but nothing is added.
    expect(backend.submit({ ...JOB_REQUEST, seeds: [2] }, KEYED)).toEqual({ job, joined: true });
    worker.emits[0]!(DONE);
    expect(backend.submit(JOB_REQUEST, KEYED)).toEqual({ job, joined: true });
    expect(worker.requests).toHaveLength(1);
    expect(() => backend.submit(JOB_REQUEST, { ...KEYED, fingerprint: 'g' })).toThrow(expect.objectContaining({ code: 'idempotency_conflict' }));
  });

  it('draw the same seeds again once the pictures are forgotten', () => {
    const backend = newBackend();
    backend.submit({ ...JOB_REQUEST, seeds: [77] }, KEYED);
    worker.emits[0]!(DONE);
    clock.advance(3_600_000);
    const { job, joined } = backend.submit({ ...JOB_REQUEST, seeds: [78] }, KEYED);
    expect([joined, job.request.seeds, worker.requests[1]!.seeds]).toEqual([false, [77], [77]]);
  });

  it('do not take a key that was refused', () => {
    const backend = newBackend({ capacity: 1 });
    const { job } = backend.submit(JOB_REQUEST);
    expect(() => backend.submit(JOB_REQUEST, KEYED)).toThrow(expect.objectContaining({ code: 'queue_full' }));
    job.cancel('api');
    expect(backend.submit(JOB_REQUEST, { ...KEYED, fingerprint: 'g' }).joined).toBe(false);
  });

  it('without a key fold into a live job, so that the client that went away first costs nothing', () => {
    const backend = newBackend();
    const { job } = backend.submit(JOB_REQUEST, { fingerprint: 'f' });
    const lost = job.attach('cancel');
    const retry = backend.submit(JOB_REQUEST, { fingerprint: 'f', isRetry: true });
    expect(retry).toEqual({ job, joined: true });
    retry.job.attach('cancel');
    lost();
    expect(job.status).toBe('queued');
    worker.emits[0]!(DONE);
    expect(backend.submit(JOB_REQUEST, { fingerprint: 'f', isRetry: true }).joined).toBe(false);
  });
});
