import { describe, expect, it } from 'vitest';
import { admit, type AdmissionInput } from '../../src/gateway/admission.js';

const FREE: AdmissionInput = { status: 'ready', queue: { waiting: 0, running: 0, capacity: 64 }, neededBlocks: 10, totalBlocks: 10, waitSeconds: null, timeoutSeconds: null };

describe('admit', () => {
  it.each([
    ['loading', { status: 'loading' as const }, 'loading', 'model_loading', 503],
    ['draining', { status: 'draining' as const }, 'draining', 'draining', 503],
    ['failed', { status: 'failed' as const }, 'loading', 'model_unavailable', 503],
    ['too many blocks', { neededBlocks: 11 }, 'too_large', 'request_too_large', 400],
    ['a wait longer than the timeout', { waitSeconds: 30.2, timeoutSeconds: 30 }, 'deadline', 'deadline_exceeded', 429],
    ['a full queue', { queue: { waiting: 64, running: 16, capacity: 64 } }, 'queue_full', 'queue_full', 429],
  ])('refuses %s', (_name, change, reason, code, status) => {
    expect(admit({ ...FREE, ...change })).toMatchObject({ reason, error: { code, status } });
  });

  it('admits up to the last place', () => {
    expect(admit(FREE)).toBeNull();
    expect(admit({ ...FREE, queue: { waiting: 63, running: 16, capacity: 64 } })).toBeNull();
  });

  it('never asks a client to wait more than a minute', () => {
    const rejection = admit({ ...FREE, queue: { waiting: 100_000, running: 1, capacity: 64 } });
    expect(rejection?.error.retryAfterSeconds).toBe(60);
  });

  it('refuses for a deadline only what it can predict, and only those who name one', () => {
    expect(admit({ ...FREE, waitSeconds: 30, timeoutSeconds: 30 })).toBeNull();
    expect(admit({ ...FREE, waitSeconds: null, timeoutSeconds: 0 })).toBeNull();
    expect(admit({ ...FREE, waitSeconds: 3600, timeoutSeconds: null })).toBeNull();
    expect(admit({ ...FREE, waitSeconds: 0, timeoutSeconds: 0 })).toBeNull();
  });

  it('says the wait, and when a retry would fit', () => {
    const { error } = admit({ ...FREE, waitSeconds: 42.4, timeoutSeconds: 30 })!;
    expect(error.message).toBe("The wait is about 42 s, longer than this client's timeout of 30 s.");
    expect([error.retryAfterSeconds, error.shouldRetry]).toEqual([13, null]);
  });

  it('ends the retries of those who would wait more than a minute', () => {
    const full = admit({ ...FREE, queue: { waiting: 64, running: 16, capacity: 64 }, waitSeconds: 130 })!.error;
    expect([full.message, full.shouldRetry, full.retryAfterSeconds]).toEqual(['All 64 places in the queue are taken. The wait is about 130 s.', false, null]);
    const late = admit({ ...FREE, waitSeconds: 61, timeoutSeconds: 60 })!.error;
    expect([late.shouldRetry, late.retryAfterSeconds]).toEqual([false, null]);
    expect(admit({ ...FREE, queue: { waiting: 64, running: 16, capacity: 64 }, waitSeconds: 60 })!.error.shouldRetry).toBeNull();
  });
});
