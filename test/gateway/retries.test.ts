import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../support/manual-clock.js';
import { ManualGateway, type OpenRequest } from '../support/manual-gateway.js';
import { picture, preview } from '../support/manual-worker.js';
import { parseSse } from '../support/sse.js';
import { until } from '../support/until.js';

const DONE = { kind: 'succeeded' as const, result: { images: [picture().image], timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };
const KEY = { 'idempotency-key': 'k1' };

let manual: ManualGateway;
let clock: ManualClock;

beforeEach(async () => {
  clock = new ManualClock();
  manual = await ManualGateway.start({ clock, queue: 1 });
});

afterEach(() => manual.close());

const code = async (open: OpenRequest): Promise<unknown> => (JSON.parse(await open.body) as { error: { code: string } }).error.code;

describe('Idempotency-Key', () => {
  it('joins the same job, running and finished, whatever way the answer is asked for', async () => {
    const first = manual.draw({}, KEY);
    const emit = await manual.start();
    const second = manual.draw({}, KEY);
    const third = manual.draw({}, { ...KEY, prefer: 'respond-async' });
    expect((await third.response).headers['idempotent-replayed']).toBe('true');
    emit(picture());
    emit(DONE);
    const fourth = manual.draw({}, KEY);
    const ids = await Promise.all([first, second, third, fourth].map(async (open) => (await open.response).headers['x-job-id']));
    expect(new Set(ids).size).toBe(1);
    expect(await first.body).toBe(await second.body);
    expect(await fourth.body).toBe(await first.body);
    expect((await first.response).headers['idempotent-replayed']).toBeUndefined();
    expect(manual.worker.emits).toHaveLength(1);
  });

  it('refuses another body with a 409 that is not retried, and knows callers apart', async () => {
    manual.draw({}, KEY);
    const emit = await manual.start();
    const other = manual.draw({ n: 2 }, KEY);
    expect(await other.response).toMatchObject({ statusCode: 409, headers: { 'x-should-retry': 'false' } });
    expect(await code(other)).toBe('idempotency_conflict');
    emit(picture());
    emit(DONE);
    const stranger = manual.draw({ n: 2 }, { ...KEY, authorization: 'Bearer someone' });
    await manual.job(1);
    stranger.abort();
  });

  it('keeps the job for 30 s after its client was lost, for the retry to join', async () => {
    const first = manual.draw({}, KEY);
    const emit = await manual.start();
    first.abort();
    await until(() => clock.pending > 0);
    clock.advance(29_000);
    const retry = manual.draw({}, { ...KEY, 'x-stainless-retry-count': '1' });
    await until(() => clock.pending === 0);
    clock.advance(60_000);
    expect(manual.worker.cancelled).toBe(0);
    emit(picture());
    emit(DONE);
    expect((await retry.response).statusCode).toBe(200);
    expect(manual.worker.emits).toHaveLength(1);
  });

  it('stops following a stream whose client was lost before its first byte', async () => {
    const first = manual.draw({ stream: true, partial_images: 1 }, KEY);
    const emit = await manual.start();
    expect(manual.worker.watched).toEqual([true]);
    first.abort();
    await until(() => clock.pending > 0);
    emit(preview('full', 0));
    await until(() => manual.worker.watched.at(-1) === false, 'nobody follows');
    const retry = manual.draw({ stream: true, partial_images: 1 }, { ...KEY, 'x-stainless-retry-count': '1' });
    await retry.response;
    emit(picture());
    emit(DONE);
    expect(parseSse(await retry.body).events.map(({ event }) => event)).toEqual(['image_generation.partial_image', 'image_generation.completed']);
  });

  it('ends the job when nobody comes back', async () => {
    const first = manual.draw({}, KEY);
    await manual.start();
    first.abort();
    await until(() => clock.pending > 0);
    clock.advance(30_000);
    expect(manual.worker.cancelled).toBe(1);
  });

  it('lets a retry in although the queue is full', async () => {
    manual.draw({}, KEY);
    const emit = await manual.job();
    expect(await code(manual.draw({ seed: 2 }))).toBe('queue_full');
    const retry = manual.draw({}, KEY);
    await until(async () => (await manual.gateway.metric('ardiff_requests_rejected_total{reason="queue_full"}')) === 1);
    emit(picture());
    emit(DONE);
    expect((await retry.response).statusCode).toBe(200);
  });
});

describe('retries without a key', () => {
  it('join a live job of equal body; first attempts do not', async () => {
    manual.draw({ seed: 1 });
    const emit = await manual.start();
    const again = manual.draw({ seed: 1 });
    const emitAgain = await manual.start(1);
    const retry = manual.draw({ seed: 1 }, { 'x-stainless-retry-count': '1' });
    const other = manual.draw({ seed: 2 }, { 'x-stainless-retry-count': '1' });
    await manual.start(2);
    for (const play of [emit, emitAgain]) {
      play(picture());
      play(DONE);
    }
    expect((await retry.response).headers['x-job-id']).toBe((await again.response).headers['x-job-id']);
    expect((await retry.response).headers['idempotent-replayed']).toBe('true');
    other.abort();
  });

  it('find nothing to join once their client was gone: that ended the job at once', async () => {
    const lost = manual.draw({ seed: 1 });
    await manual.start();
    lost.abort();
    await until(() => manual.worker.cancelled === 1);
    manual.draw({ seed: 1 }, { 'x-stainless-retry-count': '1' });
    await manual.job(1);
  });

  it('hold the job when the first connection breaks while both wait', async () => {
    const body = { seed: 1, stream: true, stream_options: { include_progress: true } };
    const first = manual.draw(body);
    const emit = await manual.start();
    const retry = manual.draw(body, { 'x-stainless-retry-count': '1' });
    await retry.response;
    first.abort();
    await until(async () => (await manual.gateway.metric('ardiff_requests_total{model="tiny",api="images.generations",outcome="cancelled"}')) === 1);
    expect(manual.worker.cancelled).toBe(0);
    emit(picture());
    emit(DONE);
    expect(await retry.body).toContain('image_generation.completed');
    retry.abort();
    expect(manual.worker.emits).toHaveLength(1);
  });
});
