import { describe, expect, it } from 'vitest';
import { readHeaders, readLastEventId } from '../../src/gateway/request-headers.js';

const refused = (headers: Record<string, string>, param: string): void => {
  expect(() => readHeaders(headers)).toThrow(expect.objectContaining({ code: 'invalid_value', param }));
};

describe('readHeaders', () => {
  it('asks for nothing where nothing is said', () => {
    expect(readHeaders({})).toEqual({ idempotencyKey: null, isRetry: false, timeoutSeconds: null, prefer: { respondAsync: false, waitSeconds: 0 } });
  });

  it.each(['', ' ', 'a b', 'a\0b', 'ä', '\ud800', 'k'.repeat(256)])('refuses the key %j', (key) => {
    refused({ 'idempotency-key': key }, 'Idempotency-Key');
  });

  it('takes keys up to 255 characters', () => {
    const key = 'k'.repeat(255);
    expect(readHeaders({ 'idempotency-key': key }).idempotencyKey).toBe(key);
  });

  it.each(['', 'two', '-1', '1.5', '1e3', '9'.repeat(7), '1, 2', '\0'])('refuses a retry count of %j', (count) => {
    refused({ 'x-stainless-retry-count': count }, 'x-stainless-retry-count');
  });

  it('calls a request a retry from the first repetition on', () => {
    expect(['0', '1', '2'].map((count) => readHeaders({ 'x-stainless-retry-count': count }).isRetry)).toEqual([false, true, true]);
  });

  it.each(['', 'soon', '-5', 'NaN', 'Infinity', '1'.repeat(20), '0x10'])('refuses a timeout of %j', (timeout) => {
    refused({ 'x-stainless-timeout': timeout }, 'x-stainless-timeout');
  });

  it('reads a timeout in seconds, whole or not', () => {
    expect(['0', '30', '2.5'].map((timeout) => readHeaders({ 'x-stainless-timeout': timeout }).timeoutSeconds)).toEqual([0, 30, 2.5]);
  });

  it.each([
    ['respond-async', { respondAsync: true, waitSeconds: 0 }],
    ['Respond-Async ; wait=5', { respondAsync: true, waitSeconds: 5 }],
    ['wait="7", respond-async', { respondAsync: true, waitSeconds: 7 }],
    ['respond-async, wait=100000', { respondAsync: true, waitSeconds: 120 }],
    ['return=minimal, , handling = lenient', { respondAsync: false, waitSeconds: 0 }],
  ])('reads Prefer: %s', (prefer, expected) => {
    expect(readHeaders({ prefer }).prefer).toEqual(expected);
  });

  it.each(['respond-async=1', 'wait=', 'wait=1.5', 'wait=-1', 'wait', 'respond-async; wait=\0'])('refuses Prefer: %j', (prefer) => {
    refused({ prefer }, 'Prefer');
  });
});

describe('readLastEventId', () => {
  it('splits at the last hyphen', () => {
    expect(readLastEventId({ 'last-event-id': 'a-b-12' })).toEqual({ epoch: 'a-b', seq: 12 });
    expect(readLastEventId({})).toBeNull();
  });
});
