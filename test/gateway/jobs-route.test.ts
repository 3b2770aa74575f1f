import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import type { JobEvent } from '../../src/jobs/job.js';
import { ManualGateway, type OpenRequest } from '../support/manual-gateway.js';
import { picture, preview } from '../support/manual-worker.js';
import { parseSse } from '../support/sse.js';
import { until } from '../support/until.js';

let manual: ManualGateway;

beforeEach(async () => {
  manual = await ManualGateway.start();
});

afterEach(() => manual.close());

const drawn = (to: number): JobEvent => ({ kind: 'tokens', image: 0, from: to - 1, to, total: 16 });
const DONE: JobEvent = { kind: 'succeeded', result: { images: [picture().image], timings: { queue: 0.5, draw: 1, encode: 0.25, total: 1.75 } } };
const ASYNC = { prefer: 'respond-async' };

const json = async (open: OpenRequest): Promise<Record<string, unknown>> => JSON.parse(await open.body) as Record<string, unknown>;
const get = (path: string, headers: Record<string, string> = {}): OpenRequest => manual.send('GET', path, undefined, headers);

/** A job of its own, running; returns its path and how to play it. */
async function submit(body: object = {}): Promise<{ path: string; emit: (event: JobEvent) => void }> {
  const index = manual.worker.emits.length;
  const { id } = await json(manual.draw(body, ASYNC));
  return { path: `/v1/jobs/${String(id)}`, emit: await manual.start(index) };
}

describe('Prefer: respond-async', () => {
  it('answers 202 with the job and where it is', async () => {
    const open = manual.draw({ seed: 7, n: 2 }, ASYNC);
    const { statusCode, headers } = await open.response;
    const job = await json(open);
    expect([statusCode, headers['location'], headers['x-job-id'], headers['preference-applied']]).toEqual([202, `/v1/jobs/${String(job['id'])}`, job['id'], 'respond-async']);
    expect(job).toEqual({
      id: expect.any(String),
      object: 'image_generation.job',
      status: 'queued',
      model: 'tiny',
      created_at: expect.any(Number),
      queue_position: 0,
      progress: 0,
      seeds: [7, 8],
      result: null,
      error: null,
    });
  });

  it('leaves the job to itself: nobody needs to wait for it', async () => {
    const { path, emit } = await submit();
    expect(manual.worker.cancelled).toBe(0);
    emit(drawn(8));
    expect(await json(get(path))).toMatchObject({ status: 'running', progress: 0.48, result: null });
    emit(picture());
    emit(DONE);
    expect(await json(get(path))).toMatchObject({
      status: 'succeeded',
      progress: 1,
      result: { data: [{ b64_json: 'AA==', seed: 0 }], size: '8x8', quality: 'medium', usage: { output_tokens: 16 }, timings: { total_ms: 1750 } },
    });
  });

  it('waits as long as it is told to, and answers as ever if that was enough', async () => {
    const quick = manual.draw({}, { prefer: 'wait=60, respond-async' });
    const emit = await manual.start(0);
    emit(picture());
    emit(DONE);
    expect((await quick.response).statusCode).toBe(200);
    expect(await json(quick)).toMatchObject({ data: [{ seed: 0 }], usage: { output_tokens: 16 } });
    const slow = manual.draw({}, { prefer: 'respond-async; wait=1' });
    expect((await slow.response).statusCode).toBe(202);
  });

  it('says no to what makes no sense, and ignores preferences it does not know', async () => {
    for (const prefer of ['respond-async=yes', 'respond-async, wait=soon', 'respond-async, wait=-1']) {
      const open = manual.draw({}, { prefer });
      expect(await json(open)).toMatchObject({ error: { code: 'invalid_value', param: 'Prefer' } });
    }
    expect(await json(manual.draw({ stream: true }, ASYNC))).toMatchObject({ error: { code: 'unsupported_value', param: 'stream' } });
    expect(manual.worker.emits).toHaveLength(0);
    const open = manual.draw({}, { prefer: 'handling=lenient, return=minimal' });
    const emit = await manual.start();
    emit(picture());
    emit(DONE);
    expect((await open.response).statusCode).toBe(200);
  });
});

describe('GET /v1/jobs/{id}', () => {
  it('tells what became of a job that failed or was cancelled', async () => {
    const failed = await submit();
    failed.emit({ kind: 'failed', error: new ServerError('engine_error', 'broke') });
    expect(await json(get(failed.path))).toMatchObject({ status: 'failed', error: { code: 'engine_error', type: 'server_error', message: 'broke', param: null } });
    const { path } = await submit();
    const cancel = manual.send('POST', `${path}/cancel`);
    expect(await json(cancel)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } });
    expect(manual.worker.cancelled).toBe(1);
    // Again, and after the end: the same answer.
    expect(await json(manual.send('POST', `${path}/cancel`))).toMatchObject({ status: 'cancelled' });
    expect(await json(manual.send('POST', `${failed.path}/cancel`))).toMatchObject({ status: 'failed' });
    expect(await json(get(path))).toMatchObject({ status: 'cancelled', result: null });
  });

  it('tells the client that waits for a job that somebody else ended it', async () => {
    await manual.close();
    manual = await ManualGateway.start({ patience: { earlyHintsMs: 5 } });
    const open = manual.draw({});
    await manual.start();
    // The early hint says where the job is.
    await until(() => open.interim.length > 0);
    const [, path] = /^<(.*)>; rel=status$/.exec(String(open.interim[0]!['link']))!;
    await manual.send('POST', `${path!}/cancel`).body;
    expect((await open.response).statusCode).toBe(499);
    expect(await json(open)).toMatchObject({ error: { code: 'cancelled' } });
  });

  it.each([
    ['GET', '/v1/jobs/none'],
    ['GET', '/v1/jobs/none/events'],
    ['POST', '/v1/jobs/none/cancel'],
    ['GET', '/v1/jobs/%00'],
    ['GET', '/v1/jobs/__proto__'],
    ['GET', `/v1/jobs/${'x'.repeat(90)}`],
  ])('%s %s → job_not_found', async (method, path) => {
    const open = manual.send(method, path);
    expect((await open.response).statusCode).toBe(404);
    expect(await json(open)).toMatchObject({ error: { type: 'invalid_request_error', code: 'job_not_found', param: 'id' } });
  });

  it.each([
    ['DELETE', '/v1/jobs/none', 405, 'method_not_allowed'],
    ['POST', '/v1/jobs/none/events', 405, 'method_not_allowed'],
    ['PUT', '/v1/jobs/none/cancel', 405, 'method_not_allowed'],
    ['GET', '/v1/jobs', 404, 'not_found'],
    ['GET', '/v1/jobs/%zz', 400, 'invalid_value'],
  ])('%s %s → %i %s', async (method, path, status, code) => {
    const open = manual.send(method, path);
    expect((await open.response).statusCode).toBe(status);
    expect(await json(open)).toMatchObject({ error: { code } });
  });
});

describe('an id that is longer than any', () => {
  it('is refused', async () => {
    const open = get(`/v1/jobs/${'x'.repeat(5000)}`);
    expect((await open.response).statusCode).toBe(400);
    expect(await json(open)).toMatchObject({ error: { code: 'invalid_value' } });
  });
});

describe('GET /v1/jobs/{id}/events', () => {
  it('has no HEAD', async () => {
    const { path } = await submit();
    expect(await manual.send('HEAD', `${path}/events`).response).toMatchObject({ statusCode: 405, headers: { allow: 'GET' } });
  });

  it('tells a job from its beginning to its end, each event with its id', async () => {
    const { path, emit } = await submit({ partial_images: 1 });
    for (const event of [drawn(4), preview('full', 0), drawn(16), picture(), DONE]) emit(event);
    const open = get(`${path}/events`);
    const { events } = parseSse(await open.body);
    expect(open.text.startsWith('retry: 1000\n\n')).toBe(true);
    expect(events.map(({ event }) => event)).toEqual(['queued', 'started', 'progress', 'preview', 'progress', 'image', 'progress', 'completed']);
    const epoch = manual.gateway.backend.epoch;
    expect(events.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5, 6, 6, 7].map((seq) => `${epoch}-${seq}`));
    for (const { data } of events) expect(data).toMatchObject({ job: path.split('/').at(-1), seq: expect.any(Number), ts: expect.any(Number) });
    expect(events[1]!.data).toMatchObject({ worker: 'worker-0', batch_size: 1 });
    expect(events[3]!.data).toMatchObject({ image: 0, n: 0, kind: 'full', mime: 'image/png', w: 8, h: 8, rect: { x: 0, y: 0, width: 8, height: 8 }, b64_json: 'AA==' });
    expect(events[5]!.data).toMatchObject({ image: 0, seed: 0, final: true, b64_json: 'AA==' });
    expect(events[7]!.data).toMatchObject({ usage: { output_tokens: 16 }, timings: { queue_ms: 500 } });
  });

  it('goes on where a client left off, and tells an EventSource that has seen the end to stop', async () => {
    const { path, emit } = await submit();
    emit(drawn(4));
    const first = get(`${path}/events`);
    await until(() => parseSse(first.text).events.length === 3);
    const { id } = parseSse(first.text).events.at(-1)!;
    first.abort();
    emit(drawn(5));
    emit(drawn(6));
    const second = get(`${path}/events`, { 'last-event-id': id! });
    await until(() => parseSse(second.text).events.length === 1);
    emit(picture());
    emit(DONE);
    const { events } = parseSse(await second.body);
    expect(events.map(({ event }) => event)).toEqual(['progress', 'image', 'progress', 'completed']);
    expect(events[0]!.data).toMatchObject({ step: 6, total: 16, fraction: 0.36 });
    const third = get(`${path}/events`, { 'last-event-id': events.at(-1)!.id! });
    expect((await third.response).statusCode).toBe(204);
  });

  it('says when history is gone, with where the job is now', async () => {
    const { path, emit } = await submit();
    for (let to = 1; to <= 12; to += 1) emit(preview('full', to));
    const epoch = manual.gateway.backend.epoch;
    emit(drawn(4));
    emit(picture());
    emit(DONE);
    const trimmed = parseSse(await get(`${path}/events`, { 'last-event-id': `${epoch}-4` }).body).events;
    expect(trimmed.map(({ event }) => event)).toEqual(['gap', 'snapshot', 'preview', 'progress', 'image', 'progress', 'completed']);
    expect(trimmed[0]).toMatchObject({ id: null, data: { epoch, from: 5, to: 13 } });
    expect(trimmed[1]).toMatchObject({ id: null, data: { status: 'succeeded', progress: 1, result: null } });
    // Another life of the server: everything the client knew is another history.
    const other = parseSse(await get(`${path}/events`, { 'last-event-id': 'abc-9' }).body).events;
    expect(other.map(({ event }) => event).slice(0, 3)).toEqual(['gap', 'snapshot', 'queued']);
  });

  it.each(['x', '-1', 'abc-', 'abc-1.5', 'a b-1', 'abc-99999999999999999999', `${'e'.repeat(200)}-1`, '\u00ff-1'])('answers Last-Event-ID %j with 400', async (id) => {
    const { path } = await submit();
    const open = get(`${path}/events`, { 'last-event-id': id });
    expect((await open.response).statusCode).toBe(400);
    expect(await json(open)).toMatchObject({ error: { code: 'invalid_value', param: 'Last-Event-ID' } });
  });

  it('answers an event that did not happen yet with 400, and an empty id like none', async () => {
    const { path, emit } = await submit();
    const open = get(`${path}/events`, { 'last-event-id': `${manual.gateway.backend.epoch}-99` });
    expect((await open.response).statusCode).toBe(400);
    emit(picture());
    emit(DONE);
    expect(parseSse(await get(`${path}/events`, { 'last-event-id': '' }).body).events[0]!.event).toBe('queued');
  });

  it('has many watchers, and none of them keeps a job alive or ends it', async () => {
    const owner = manual.draw({ stream: true, stream_options: { include_progress: true } });
    const emit = await manual.start();
    const id = String((await owner.response).headers['x-job-id']);
    const watchers = Array.from({ length: 5 }, () => get(`/v1/jobs/${id}/events`));
    await until(() => watchers.every((open) => open.text.includes('started')));
    watchers[0]!.abort();
    emit(drawn(4));
    expect(manual.worker.cancelled).toBe(0);
    owner.abort();
    await until(() => manual.worker.cancelled === 1);
    for (const open of watchers.slice(1)) {
      expect(parseSse(await open.body).events.at(-1)).toMatchObject({ event: 'cancelled', data: { reason: 'disconnect' } });
    }
  });

  it('ends with failed for a job that failed', async () => {
    const { path, emit } = await submit();
    emit({ kind: 'failed', error: new ServerError('worker_lost', 'lost') });
    expect(parseSse(await get(`${path}/events`).body).events.at(-1)).toMatchObject({ event: 'failed', data: { error: { code: 'worker_lost' } } });
  });
});
