import { describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { EmbeddedBackend, type JobWorker } from '../../src/jobs/embedded.js';
import type { JobEvent, JobRequest } from '../../src/jobs/job.js';

const REQUEST: JobRequest = {
  model: 'tiny',
  promptRows: [[130]],
  gridHeight: 1,
  gridWidth: 1,
  seeds: [1],
  sampler: 'B',
  samplerLevel: 0.8,
  timesteps: 1,
  timestepShift: 1,
  guidanceScale: 1,
  guidanceSchedule: 'constant',
  useNorm: false,
  format: 'png',
  compression: 100,
};
const DONE: JobEvent = { kind: 'succeeded', result: { images: [], timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };

/** A worker driven by hand. */
class ManualWorker implements JobWorker {
  readonly emits: ((event: JobEvent) => void)[] = [];
  cancelled = 0;
  stopped = false;

  start(_request: JobRequest, emit: (event: JobEvent) => void): { cancel: () => void } {
    this.emits.push(emit);
    return { cancel: () => { this.cancelled += 1; } };
  }

  capacityOf(): { neededBlocks: number; totalBlocks: number } {
    return { neededBlocks: 1, totalBlocks: 1 };
  }

  async stop(): Promise<void> {
    this.stopped = true;
  }
}

describe('EmbeddedBackend', () => {
  it('refuses what does not fit into the queue; running jobs do not count', () => {
    const worker = new ManualWorker();
    const backend = new EmbeddedBackend(worker, 2);
    backend.submit(REQUEST);
    backend.submit(REQUEST);
    expect(() => backend.submit(REQUEST)).toThrow(expect.objectContaining({ code: 'queue_full' }));
    worker.emits[0]!({ kind: 'started' });
    expect(backend.queue).toEqual({ waiting: 1, running: 1, capacity: 2 });
    backend.submit(REQUEST);
  });

  it('turns a worker that cannot start into a failed job', async () => {
    const worker = new ManualWorker();
    worker.start = () => {
      throw new Error('no');
    };
    const backend = new EmbeddedBackend(worker, 2);
    await expect(backend.submit(REQUEST).result).rejects.toMatchObject({ code: 'internal_error' });
    expect(backend.queue.waiting).toBe(0);
  });

  it('publishes events in order until the end, and ignores what comes later', async () => {
    const worker = new ManualWorker();
    const job = new EmbeddedBackend(worker, 2).submit(REQUEST);
    const seen: string[] = [];
    const stop = job.subscribe((event) => seen.push(event.kind));
    const [emit] = worker.emits;
    emit!({ kind: 'started' });
    emit!(DONE);
    emit!({ kind: 'failed', error: new ServerError('engine_error', 'late') });
    expect(await job.result).toMatchObject({ images: [] });
    expect(seen).toEqual(['started', 'succeeded']);
    expect(job.status).toBe('succeeded');
    stop();
  });

  it('cancels once, and not after the end', async () => {
    const worker = new ManualWorker();
    const backend = new EmbeddedBackend(worker, 2);
    const job = backend.submit(REQUEST);
    job.cancel();
    job.cancel();
    expect(worker.cancelled).toBe(1);
    await expect(job.result).rejects.toMatchObject({ code: 'cancelled' });
    const done = backend.submit(REQUEST);
    worker.emits[1]!(DONE);
    done.cancel();
    expect(worker.cancelled).toBe(1);
    expect(done.status).toBe('succeeded');
  });

  it('drains: finishes what runs, refuses what comes, fails what is left after the grace', async () => {
    const worker = new ManualWorker();
    const backend = new EmbeddedBackend(worker, 4);
    const [finishes, hangs] = [backend.submit(REQUEST), backend.submit(REQUEST)];
    const drained = backend.drain(20);
    expect(() => backend.submit(REQUEST)).toThrow(expect.objectContaining({ code: 'draining' }));
    worker.emits[0]!(DONE);
    await drained;
    expect(finishes.status).toBe('succeeded');
    await expect(hangs.result).rejects.toMatchObject({ code: 'draining', status: 503 });
    expect(worker.stopped).toBe(true);
  });
});
