import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import type { JobEvent, JobResult } from '../../src/jobs/job.js';
import { ManualGateway } from '../support/manual-gateway.js';
import { picture, preview } from '../support/manual-worker.js';
import { parseSse } from '../support/sse.js';
import { until } from '../support/until.js';

let manual: ManualGateway;

beforeEach(async () => {
  manual = await ManualGateway.start();
});

afterEach(() => manual.close());

const drawn = (image: number, to: number): JobEvent => ({ kind: 'tokens', image, from: 0, to, total: 16 });
const done = (...images: ReturnType<typeof picture>[]): JobEvent => {
  const timings: JobResult['timings'] = { queue: 0.001, draw: 0.25, encode: 0.002, total: 0.253 };
  return { kind: 'succeeded', result: { images: images.map(({ image }) => image), timings } };
};

/** Outside the JavaScript heap, what is garbage already not counted. */
function retainedBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
}

describe('stream: true', () => {
  it('sends the events of the OpenAI schema, with every field', async () => {
    const open = manual.draw({ stream: true, partial_images: 2, seed: 0, output_format: 'webp' });
    const emit = await manual.start();
    for (const event of [drawn(0, 8), preview('full', 0, { bytes: 3 }), drawn(0, 16), preview('full', 1), picture(), done(picture())]) emit(event);
    const { events, comments } = parseSse(await open.body);
    const { headers } = await open.response;
    expect(headers).toMatchObject({ 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache, no-transform', 'x-queue-position': '0' });
    expect([headers['x-request-id'], headers['x-job-id'], headers['openai-processing-ms']].every(Boolean)).toBe(true);
    expect(comments).toEqual([]);
    expect(events.map(({ event, data }) => [event, data['type']])).toEqual([
      ['image_generation.partial_image', 'image_generation.partial_image'],
      ['image_generation.partial_image', 'image_generation.partial_image'],
      ['image_generation.completed', 'image_generation.completed'],
    ]);
    const shared = { created_at: expect.any(Number), size: '8x8', quality: 'medium', background: 'opaque', output_format: 'webp' };
    expect(events[0]!.data).toEqual({ type: expect.any(String), partial_image_index: 0, b64_json: 'AAAA', ...shared });
    expect(events[1]!.data).toMatchObject({ partial_image_index: 1 });
    expect(events[2]!.data).toEqual({
      type: expect.any(String),
      b64_json: 'AA==',
      ...shared,
      seed: 0,
      // "x", <|image_area|>4*4, boi.
      usage: {
        input_tokens: 6,
        output_tokens: 16,
        total_tokens: 22,
        input_tokens_details: { text_tokens: 6, image_tokens: 0 },
        output_tokens_details: { image_tokens: 16, text_tokens: 0 },
        acceleration: expect.any(Object),
      },
      timings: { queue_ms: 1, draw_ms: 250, encode_ms: 2, total_ms: 253 },
    });
    expect(await manual.gateway.metric('ardiff_previews_total{transport="sse",result="sent"}')).toBe(2);
    await until(async () => (await manual.gateway.metric('ardiff_request_duration_seconds_count{model="tiny",api="images.generations",stream="true"}')) === 1);
  });

  it('sends one completed per picture as each is done, with its index; the last carries the times', async () => {
    const open = manual.draw({ stream: true, n: 3, seed: 0 });
    const emit = await manual.start();
    emit(picture(2));
    await until(() => parseSse(open.text).events.length === 1);
    for (const event of [picture(0), picture(1), done(picture(0), picture(1), picture(2))]) emit(event);
    const { events } = parseSse(await open.body);
    expect(events.map(({ data }) => [data['index'], data['seed'], 'timings' in data])).toEqual([[2, 2, false], [0, 0, false], [1, 1, true]]);
    expect(events.map(({ data }) => (data['usage'] as { output_tokens: number }).output_tokens)).toEqual([48, 48, 48]);
  });

  it('tells progress only to those who ask for it, and it never falls', async () => {
    const silent = manual.draw({ stream: true, n: 2 });
    await manual.start(0);
    const asked = manual.draw({ stream: true, n: 2, stream_options: { include_progress: true } });
    await manual.start(1);
    for (const event of [drawn(0, 4), drawn(1, 8), drawn(0, 2), drawn(0, 16), picture(0), picture(1), done(picture(0), picture(1))]) {
      for (const emit of manual.worker.emits) emit(event);
      await new Promise(setImmediate);
    }
    expect(parseSse(await silent.body).events.map(({ event }) => event)).toEqual(['image_generation.completed', 'image_generation.completed']);
    const progress = parseSse(await asked.body).events.filter(({ event }) => event === 'image_generation.progress');
    expect(progress.map(({ data }) => [data['stage'], data['step'], data['total'], data['image']])).toEqual([
      ['prefill', 0, 1, undefined],
      ['ar', 4, 16, 0],
      ['ar', 8, 16, 1],
      ['ar', 16, 16, 0],
      ['encode', 1, 2, 0],
      ['encode', 2, 2, 1],
    ]);
    const fractions = progress.map(({ data }) => Number(data['fraction']));
    expect([...fractions].sort((a, b) => a - b)).toEqual(fractions);
    expect(fractions.at(-1)).toBe(1);
  });

  it('tells tokens of 50 ms in one progress, and other news at once', async () => {
    await manual.close();
    manual = await ManualGateway.start({ patience: { progressMs: 50 } });
    const open = manual.draw({ stream: true, partial_images: 1, stream_options: { include_progress: true } });
    const emit = await manual.start();
    for (let to = 1; to <= 8; to += 1) {
      emit(drawn(0, to));
      await new Promise(setImmediate);
    }
    emit(preview('full', 0));
    await until(() => open.text.includes('partial_image'));
    emit(drawn(0, 9));
    await until(() => open.text.includes('"step":9'));
    emit(picture());
    emit(done(picture()));
    const { events } = parseSse(await open.body);
    const steps = events.filter(({ data }) => data['stage'] === 'ar').map(({ data }) => Number(data['step']));
    // A loaded machine may split the eight; none may be told one by one, and none be lost.
    expect(steps.slice(-2)).toEqual([8, 9]);
    expect(steps.length).toBeLessThan(6);
    const names = events.map(({ event }) => event.split('.')[1]);
    expect(names.indexOf('partial_image')).toBe(names.lastIndexOf('progress') - 2);
  });

  it('answers a failure before the first byte with its status, and one after it with an error event', async () => {
    const early = manual.draw({ stream: true });
    (await manual.start(0))({ kind: 'failed', error: new ServerError('out_of_memory', 'no', { shouldRetry: false }) });
    expect(await early.response).toMatchObject({ statusCode: 500, headers: { 'x-should-retry': 'false', 'content-type': expect.stringMatching(/json/) } });
    expect(JSON.parse(await early.body)).toMatchObject({ error: { code: 'out_of_memory' } });

    const late = manual.draw({ stream: true, partial_images: 1 });
    const emit = await manual.start(1);
    emit(preview('full', 0));
    emit({ kind: 'failed', error: new ServerError('engine_error', 'broke') });
    expect((await late.response).statusCode).toBe(200);
    const last = parseSse(await late.body).events.at(-1)!;
    expect(last).toMatchObject({ event: 'error', data: { error: { message: 'broke', type: 'server_error', param: null, code: 'engine_error' } } });
  });

  it('sends comments while nothing happens, also before the first event', async () => {
    await manual.close();
    manual = await ManualGateway.start({ patience: { heartbeatMs: 15 } });
    const open = manual.draw({ stream: true });
    const emit = await manual.start();
    await until(() => parseSse(open.text).comments.length >= 2);
    emit(picture());
    emit(done(picture()));
    const { events, comments } = parseSse(await open.body);
    expect(events.map(({ event }) => event)).toEqual(['image_generation.completed']);
    expect(new Set(comments)).toEqual(new Set(['keep-alive']));
  });

  it('cancels when the client goes, before the first byte and after it', async () => {
    const early = manual.draw({ stream: true });
    await manual.start(0);
    early.abort();
    await until(() => manual.worker.cancelled === 1);
    const late = manual.draw({ stream: true, partial_images: 1 });
    (await manual.start(1))(preview('full', 0));
    await until(() => late.text.includes('partial_image'));
    late.abort();
    await until(() => manual.worker.cancelled === 2);
    expect(manual.gateway.backend.queueOf('tiny')).toMatchObject({ running: 0, waiting: 0 });
    await until(async () => (await manual.gateway.metric('ardiff_requests_total{model="tiny",api="images.generations",outcome="cancelled"}')) === 2);
  });

  it('keeps for a reader that stands still: the newest partial, one progress, every final', async () => {
    const open = manual.draw({ stream: true, n: 2, partial_images: 3, stream_options: { include_progress: true } });
    const emit = await manual.start();
    const reply = await open.response;
    reply.pause();
    const before = retainedBytes();
    // More than sockets hold: 200 MiB if it were kept.
    for (let index = 0; index < 200; index += 1) {
      emit(preview('full', index, { bytes: 2 ** 20 }));
      emit(drawn(0, 1 + (index % 15)));
      await new Promise(setImmediate);
    }
    expect(retainedBytes() - before).toBeLessThan(32 * 2 ** 20);
    for (const event of [picture(0, 2 ** 20), picture(1, 2 ** 20), done(picture(0), picture(1))]) emit(event);
    reply.resume();
    const { events } = parseSse(await open.body);
    const of = (name: string) => events.filter(({ event }) => event === `image_generation.${name}`);
    expect(of('completed').map(({ data }) => data['index'])).toEqual([0, 1]);
    expect(of('completed').every(({ data }) => String(data['b64_json']).length > 2 ** 20)).toBe(true);
    const partials = of('partial_image').map(({ data }) => Number(data['partial_image_index']));
    expect(partials.length).toBeLessThan(20);
    expect(partials.at(-1)).toBe(199);
    expect([...partials].sort((a, b) => a - b)).toEqual(partials);
    expect(of('progress').at(-1)!.data['fraction']).toBe(1);
    expect(await manual.gateway.metric('ardiff_previews_total{transport="sse",result="dropped"}')).toBe(200 - partials.length);
  });
});
