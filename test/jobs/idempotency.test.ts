import { beforeEach, describe, expect, it } from 'vitest';
import { Idempotency } from '../../src/jobs/idempotency.js';
import type { JobStatus } from '../../src/jobs/job.js';
import { ManualClock } from '../support/manual-clock.js';
import { JOB_REQUEST } from '../support/manual-worker.js';

interface Job {
  id: string;
  status: JobStatus;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const RUN_NEW = { kind: 'run', request: null };
const KEYED = { idempotencyKey: 'k', fingerprint: 'f' };

let clock: ManualClock;
let jobs: Map<string, Job>;
let idempotency: Idempotency<Job>;

beforeEach(() => {
  clock = new ManualClock();
  jobs = new Map();
  idempotency = new Idempotency(clock, (id) => jobs.get(id) ?? null);
});

function remember(options: object, id = 'a', status: JobStatus = 'running'): Job {
  const job = { id, status };
  jobs.set(id, job);
  idempotency.remember(options, job, JOB_REQUEST);
  return job;
}

describe('Idempotency', () => {
  it.each(['queued', 'running', 'succeeded'] as const)('joins the %s job of an equal key and body', (status) => {
    const job = remember(KEYED, 'a', status);
    expect(idempotency.judge(KEYED)).toEqual({ kind: 'join', job });
    expect(idempotency.judge({ idempotencyKey: 'other', fingerprint: 'f' })).toEqual(RUN_NEW);
  });

  it('refuses a key with another body, and tells clients not to retry', () => {
    remember(KEYED);
    expect(() => idempotency.judge({ idempotencyKey: 'k', fingerprint: 'g' })).toThrow(
      expect.objectContaining({ code: 'idempotency_conflict', status: 409, shouldRetry: false }),
    );
  });

  it.each(['failed', 'cancelled'] as const)('runs a %s job again, from the same request', (status) => {
    remember(KEYED, 'a', status);
    expect(idempotency.judge(KEYED)).toEqual({ kind: 'run', request: JOB_REQUEST });
  });

  it('draws forgotten pictures again, from the same request', () => {
    remember(KEYED, 'a', 'succeeded');
    jobs.clear();
    expect(idempotency.judge(KEYED)).toEqual({ kind: 'run', request: JOB_REQUEST });
  });

  it('forgets keys after a day', () => {
    remember(KEYED);
    clock.advance(DAY_MS - 1);
    expect(idempotency.judge(KEYED)).toMatchObject({ kind: 'join' });
    clock.advance(1);
    expect(idempotency.judge(KEYED)).toEqual(RUN_NEW);
    expect(idempotency.judge({ idempotencyKey: 'k', fingerprint: 'g' })).toEqual(RUN_NEW);
  });

  it('remembers the newest 10,000 keys', () => {
    for (let i = 0; i <= 10_000; i += 1) remember({ idempotencyKey: `k${i}`, fingerprint: 'f' });
    expect(idempotency.judge({ idempotencyKey: 'k0', fingerprint: 'f' })).toEqual(RUN_NEW);
    expect(idempotency.judge({ idempotencyKey: 'k1', fingerprint: 'f' })).toMatchObject({ kind: 'join' });
  });

  it('folds a retry without a key into the live job of an equal body, but no other request', () => {
    const job = remember({ fingerprint: 'f' });
    expect(idempotency.judge({ fingerprint: 'f', isRetry: true })).toEqual({ kind: 'join', job });
    expect(idempotency.judge({ fingerprint: 'f' })).toEqual(RUN_NEW);
    expect(idempotency.judge({ fingerprint: 'g', isRetry: true })).toEqual(RUN_NEW);
    expect(idempotency.judge({ isRetry: true })).toEqual(RUN_NEW);
    idempotency.ended({ fingerprint: 'f' }, job);
    expect(idempotency.judge({ fingerprint: 'f', isRetry: true })).toEqual(RUN_NEW);
  });

  it('keeps the newer of two live jobs with equal bodies when the older one ends', () => {
    const [older, newer] = [remember({ fingerprint: 'f' }, 'a'), remember({ fingerprint: 'f' }, 'b')];
    idempotency.ended({ fingerprint: 'f' }, older);
    expect(idempotency.judge({ fingerprint: 'f', isRetry: true })).toEqual({ kind: 'join', job: newer });
  });
});
