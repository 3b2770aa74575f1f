import OpenAI, { APIError, ConflictError, InternalServerError, RateLimitError } from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import type { JobEvent } from '../../src/jobs/job.js';
import { ManualGateway } from '../support/manual-gateway.js';
import { picture, preview, STARTED } from '../support/manual-worker.js';
import { until } from '../support/until.js';

let manual: ManualGateway;
let client: OpenAI;
/** Retry counts of all requests that came in. */
let attempts: string[];

beforeEach(async () => {
  attempts = [];
  manual = await ManualGateway.start({ patience: { heartbeatMs: 20 } });
  manual.gateway.app.server.on('request', (request) => attempts.push(String(request.headers['x-stainless-retry-count'])));
  client = new OpenAI({ apiKey: 'any', baseURL: `http://127.0.0.1:${manual.port}/v1`, maxRetries: 2 });
});

afterEach(() => manual.close());

const drawn = (image: number, to: number): JobEvent => ({ kind: 'tokens', image, from: 0, to, total: 16 });
const done = (...images: ReturnType<typeof picture>[]): JobEvent => ({
  kind: 'succeeded',
  result: { images: images.map(({ image }) => image), timings: { queue: 0, draw: 0, encode: 0, total: 0 } },
});

/** Reads on in the background. */
function collect<T>(stream: AsyncIterable<T>): { events: T[]; end: Promise<void> } {
  const events: T[] = [];
  const read = async (): Promise<void> => {
    for await (const event of stream) events.push(event);
  };
  return { events, end: read() };
}

describe('the openai client, streaming', () => {
  it('gets partial images and pictures as its types say, through heartbeats', async () => {
    const pending = client.images.generate({ prompt: 'x', n: 2, stream: true, partial_images: 3 });
    const emit = await manual.start();
    emit(drawn(0, 4));
    const { events, end } = collect(await pending);
    await new Promise((resolve) => setTimeout(resolve, 60));
    for (let index = 0; index < 3; index += 1) {
      emit(preview('full', index, { image: 1 }));
      await until(() => events.length === index + 1);
    }
    emit(picture(1));
    emit(picture(0));
    emit(done(picture(0), picture(1)));
    await end;
    expect(events.map((event) => [event.type, 'partial_image_index' in event ? event.partial_image_index : null, (event as { index?: number }).index])).toEqual([
      ['image_generation.partial_image', 0, 1],
      ['image_generation.partial_image', 1, 1],
      ['image_generation.partial_image', 2, 1],
      ['image_generation.completed', null, 1],
      ['image_generation.completed', null, 0],
    ]);
    const last = events.at(-1)!;
    if (last.type !== 'image_generation.completed') throw new Error('not completed');
    expect(last.usage).toMatchObject({ total_tokens: 38, input_tokens: 6, output_tokens: 32 });
    expect([last.background, last.output_format, last.quality, last.size]).toEqual(['opaque', 'png', 'medium', '8x8']);
  });

  it('gets progress only when it asks for it', async () => {
    const options = { stream_options: { include_progress: true } };
    const pending = client.images.generate({ prompt: 'x', stream: true, ...options });
    const emit = await manual.start();
    for (const event of [drawn(0, 8), picture(), done(picture())]) emit(event);
    const { events, end } = collect(await pending);
    await end;
    const types = events.map((event) => event.type as string);
    expect(types.slice(0, 2)).toEqual(['image_generation.progress', 'image_generation.progress']);
    expect(types.filter((type) => type !== 'image_generation.progress')).toEqual(['image_generation.completed']);
  });

  it('frees the slot by leaving the loop, and by aborting', async () => {
    const first = client.images.generate({ prompt: 'x', stream: true, partial_images: 1 });
    (await manual.start(0))(preview('full', 0));
    for await (const event of await first) {
      expect(event.type).toBe('image_generation.partial_image');
      break;
    }
    await until(() => manual.worker.cancelled === 1);
    const second = await Promise.all([client.images.generate({ prompt: 'x', stream: true, partial_images: 1 }), manual.start(1).then((emit) => { emit(preview('full', 0)); })]);
    second[0].controller.abort();
    await until(() => manual.worker.cancelled === 2 && manual.gateway.backend.queueOf('tiny').running === 0);
  });

  it('throws in its loop when the job fails after the first byte', async () => {
    const pending = client.images.generate({ prompt: 'x', stream: true, partial_images: 1 });
    const emit = await manual.start();
    emit(preview('full', 0));
    const { events, end } = collect(await pending);
    end.catch(() => undefined);
    await until(() => events.length === 1);
    emit({ kind: 'failed', error: new ServerError('engine_error', 'broke') });
    const error: unknown = await end.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ code: 'engine_error', type: 'server_error', status: undefined });
    expect(attempts).toEqual(['0']);
  });

  it('repeats by itself a stream that fails before the first byte', async () => {
    const pending = client.images.generate({ prompt: 'x', stream: true });
    (await manual.job(0))({ kind: 'failed', error: new ServerError('engine_error', 'broke') });
    const emit = await manual.start(1);
    emit(picture());
    emit(done(picture()));
    const { events, end } = collect(await pending);
    await end;
    expect(events.map((event) => event.type)).toEqual(['image_generation.completed']);
    expect(attempts).toEqual(['0', '1']);
  });
});

describe('the openai client, repeating itself', () => {
  it('joins its own job by Idempotency-Key after its timeout, and gets the picture', async () => {
    const pending = client.images.generate({ prompt: 'x' }, { timeout: 700, headers: { 'Idempotency-Key': 'mine' } });
    const emit = await manual.start();
    await until(() => attempts.length >= 2, 'the second attempt');
    emit(picture());
    emit(done(picture()));
    expect((await pending).data).toHaveLength(1);
    expect(manual.worker.emits).toHaveLength(1);
    expect(manual.worker.cancelled).toBe(0);
  });

  it('starts anew without a key: its first job ended with its connection', async () => {
    const pending = client.images.generate({ prompt: 'x' }, { timeout: 700 });
    await manual.start(0);
    const emit = await manual.start(1);
    expect(manual.worker.cancelled).toBe(1);
    emit(picture());
    emit(done(picture()));
    expect((await pending).data).toHaveLength(1);
  });

  it('does not repeat what cannot succeed: a key with another body, a wait beyond its timeout', async () => {
    void client.images.generate({ prompt: 'x' }, { headers: { 'Idempotency-Key': 'mine' } }).catch(() => undefined);
    const emit = await manual.start(0);
    const conflict: unknown = await client.images.generate({ prompt: 'y' }, { headers: { 'Idempotency-Key': 'mine' } }).catch((thrown: unknown) => thrown);
    expect(conflict).toBeInstanceOf(ConflictError);
    expect(conflict).toMatchObject({ code: 'idempotency_conflict' });
    expect(attempts).toEqual(['0', '0']);

    // 16 slots and 40 pictures of 16 tokens: at this speed, minutes.
    emit(drawn(0, 1));
    await new Promise((resolve) => setTimeout(resolve, 60));
    emit(drawn(0, 2));
    await Promise.all(Array.from({ length: 50 }, () => manual.draw({ n: 10 }, { prefer: 'respond-async' }).body));
    const before = attempts.length;
    const late: unknown = await client.images.generate({ prompt: 'x' }, { timeout: 5000 }).catch((thrown: unknown) => thrown);
    expect(late).toBeInstanceOf(RateLimitError);
    expect(late).toMatchObject({ code: 'deadline_exceeded', message: expect.stringContaining("longer than this client's timeout of 5 s") });
    expect((late as RateLimitError).headers.get('x-should-retry')).toBe('false');
    expect(attempts.length).toBe(before + 1);
    expect(await manual.gateway.metric('ardiff_requests_rejected_total{reason="deadline"}')).toBe(1);
    expect(await manual.gateway.metric('ardiff_queue_eta_seconds{model="tiny"}')).toBeGreaterThan(5);
  });

  it('is told of a server that shuts down', async () => {
    const once = client.withOptions({ maxRetries: 0 });
    const pending = once.images.generate({ prompt: 'x' }).catch((thrown: unknown) => thrown);
    (await manual.job())(STARTED);
    await manual.gateway.backend.drain(0);
    const error = await pending;
    expect(error).toBeInstanceOf(InternalServerError);
    expect(error).toMatchObject({ status: 503, code: 'draining' });
  });

  it('asks for a job by its own means', async () => {
    const job = await client.post<{ id: string; status: string }>('/images/generations', { body: { prompt: 'x' }, headers: { Prefer: 'respond-async' } });
    const emit = await manual.start();
    emit(picture());
    emit(done(picture()));
    const view = await client.get<{ status: string; result: OpenAI.Images.ImagesResponse }>(`/jobs/${job.id}`);
    expect([job.status, view.status, view.result.data?.length]).toEqual(['queued', 'succeeded', 1]);
    expect(await client.post<object>(`/jobs/${job.id}/cancel`)).toMatchObject({ status: 'succeeded' });
  });
});
