import { describe, expect, it } from 'vitest';
import { admit, type AdmissionInput } from '../../src/gateway/admission.js';

const FREE: AdmissionInput = { status: 'ready', queue: { waiting: 0, running: 0, capacity: 64 }, neededBlocks: 10, totalBlocks: 10, waitSeconds: null, timeoutSeconds: null };

describe('admit', () => {
  it.each([
    ['loading', { status: 'loading' as const }, 'loading', 'model_loading', 503],
    ['draining', { status: 'draining' as const }, 'draining', 'draining', 503],
    ['failed', { status: 'failed' as const }, 'loading', 'model_unavailable', 503],
    ['too many blocks', { neededBlocks: 11 }, 'too_large', 'request_too_large', 400],
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
});
