import { beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { EmbeddedBackend } from '../../src/jobs/embedded.js';
import type { JobEvent } from '../../src/jobs/job.js';
import { Workload } from '../../src/jobs/workload.js';
import { DONE, JOB_REQUEST, ManualWorker, STARTED } from '../support/manual-worker.js';

let now: number;
let workload: Workload;
let worker: ManualWorker;
let backend: EmbeddedBackend;

/** 100 tokens a picture. */
const request = (pictures: number) => ({ ...JOB_REQUEST, gridHeight: 10, gridWidth: 10, seeds: Array.from({ length: pictures }, (_, i) => i) });
const drawn = (image: number, to: number): JobEvent => ({ kind: 'tokens', image, from: 0, to, total: 100 });

beforeEach(() => {
  now = 0;
  worker = new ManualWorker();
  workload = new Workload(2, () => now);
  backend = new EmbeddedBackend(worker, {
    capacity: 64,
    observe: (job, event) => {
      workload.observe(job, event);
    },
  });
});

describe('Workload', () => {
  it('predicts nothing before it has measured, and the queue afterwards', () => {
    backend.submit(request(2));
    worker.emits[0]!(STARTED);
    expect(workload.waitSeconds).toBeNull();
    now = 1;
    worker.emits[0]!(drawn(0, 10));
    worker.emits[0]!(drawn(1, 10));
    // 20 tokens a second, 10 per slot: 90 left in each.
    expect(workload.waitSeconds).toBeCloseTo(9);
    const { job } = backend.submit(request(3));
    expect(workload.waitSeconds).toBeCloseTo(9 + 10);
    job.cancel('api');
    expect(workload.waitSeconds).toBeCloseTo(9);
    worker.emits[0]!(DONE);
    expect(workload.waitSeconds).toBe(0);
  });

  it('does not count tokens twice that a crashed worker draws again', () => {
    backend.submit(request(1));
    now = 1;
    worker.emits[0]!(drawn(0, 50));
    now = 2;
    worker.emits[0]!(drawn(0, 25));
    worker.emits[0]!(drawn(0, 50));
    now = 4;
    worker.emits[0]!(drawn(0, 100));
    // 100 tokens in 4 s, older ones weighing a little less: the lost second is in it.
    backend.submit(request(2));
    expect(workload.waitSeconds).toBeGreaterThan(7);
    expect(workload.waitSeconds).toBeLessThan(9);
  });

  it('forgets jobs that fail', () => {
    backend.submit(request(2));
    now = 1;
    worker.emits[0]!(drawn(0, 10));
    worker.emits[0]!({ kind: 'failed', error: new ServerError('engine_error', 'no') });
    expect(workload.waitSeconds).toBe(0);
  });
});
