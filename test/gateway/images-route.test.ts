import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { until } from '../support/until.js';

let gateway: Gateway;

beforeEach(async () => {
  gateway = await createGateway();
});

afterEach(async () => {
  await gateway.close();
});

async function refused(body: unknown): Promise<{ status: number; error: Record<string, unknown> }> {
  const reply = await gateway.post(body);
  expect(reply.headers['content-type']).toMatch(/^application\/json/);
  expect(reply.headers['x-request-id']).toBeTruthy();
  const json = reply.json<{ error: Record<string, unknown> }>();
  expect(Object.keys(json)).toEqual(['error']);
  expect(Object.keys(json.error).sort()).toEqual(['code', 'message', 'param', 'type']);
  return { status: reply.statusCode, error: json.error };
}

describe('POST /v1/images/generations, wrong use', () => {
  const bad = (code: string, param: string | null): object => ({ status: 400, error: { type: 'invalid_request_error', code, param } });

  it.each<[string, unknown, string, string | null]>([
    ['no prompt', {}, 'missing_required_parameter', 'prompt'],
    ['null prompt', { prompt: null }, 'missing_required_parameter', 'prompt'],
    ['a prompt that is no string', { prompt: 7 }, 'invalid_value', 'prompt'],
    ['an empty prompt', { prompt: '' }, 'invalid_value', 'prompt'],
    ['a blank prompt', { prompt: ' \n' }, 'invalid_value', 'prompt'],
    ['a NUL in the prompt', { prompt: 'a\0b' }, 'invalid_value', 'prompt'],
    ['a lone surrogate', '{"prompt":"a\\ud800b"}', 'invalid_value', 'prompt'],
    ['a control token', { prompt: 'x <|image_placeholder|>' }, 'invalid_value', 'prompt'],
    ['a control token in the negative prompt', { prompt: 'x', negative_prompt: '[PAD]' }, 'invalid_value', 'negative_prompt'],
    ['513 tokens', { prompt: 'a'.repeat(513) }, 'string_above_max_length', 'prompt'],
    ['32,001 characters', { prompt: 'a'.repeat(32_001) }, 'string_above_max_length', 'prompt'],
    ['too long a negative prompt', { prompt: 'x', negative_prompt: 'a'.repeat(513) }, 'string_above_max_length', 'negative_prompt'],
    ['n of 0', { prompt: 'x', n: 0 }, 'invalid_value', 'n'],
    ['n of 11', { prompt: 'x', n: 11 }, 'invalid_value', 'n'],
    ['n of 1.5', { prompt: 'x', n: 1.5 }, 'invalid_value', 'n'],
    ['n as a string', { prompt: 'x', n: '2' }, 'invalid_value', 'n'],
    ['an unknown quality', { prompt: 'x', quality: 'ultra' }, 'invalid_value', 'quality'],
    ['an unknown format', { prompt: 'x', output_format: 'gif' }, 'invalid_value', 'output_format'],
    ['compression of 101', { prompt: 'x', output_format: 'jpeg', output_compression: 101 }, 'invalid_value', 'output_compression'],
    ['compressed png', { prompt: 'x', output_compression: 50 }, 'unsupported_value', 'output_compression'],
    ['a size the model does not draw', { prompt: 'x', size: '1024x1024' }, 'unsupported_value', 'size'],
    ['a size that is none', { prompt: 'x', size: 'big' }, 'unsupported_value', 'size'],
    ['url', { prompt: 'x', response_format: 'url' }, 'unsupported_value', 'response_format'],
    ['transparent', { prompt: 'x', background: 'transparent' }, 'unsupported_value', 'background'],
    ['stream as a string', { prompt: 'x', stream: 'true' }, 'invalid_value', 'stream'],
    ['stream options without stream', { prompt: 'x', stream_options: {} }, 'unsupported_value', 'stream_options'],
    ['stream options as a boolean', { prompt: 'x', stream: true, stream_options: true }, 'invalid_value', 'stream_options'],
    ['progress as a number', { prompt: 'x', stream: true, stream_options: { include_progress: 1 } }, 'invalid_value', 'stream_options.include_progress'],
    ['partial images without stream', { prompt: 'x', partial_images: 2 }, 'unsupported_value', 'partial_images'],
    ['four partial images', { prompt: 'x', partial_images: 4 }, 'invalid_value', 'partial_images'],
    ['a negative seed', { prompt: 'x', seed: -1 }, 'invalid_value', 'seed'],
    ['a seed of 2^53', { prompt: 'x', seed: 2 ** 53 }, 'invalid_value', 'seed'],
    ['guidance of 0.5', { prompt: 'x', guidance_scale: 0.5 }, 'invalid_value', 'guidance_scale'],
    ['no steps', { prompt: 'x', num_inference_steps: 0 }, 'invalid_value', 'num_inference_steps'],
    ['201 steps', { prompt: 'x', num_inference_steps: 201 }, 'invalid_value', 'num_inference_steps'],
    ['a negative prompt without guidance', { prompt: 'x', guidance_scale: 1, negative_prompt: 'y' }, 'unsupported_value', 'negative_prompt'],
    ['exact acceleration', { prompt: 'x', acceleration: { mode: 'exact' } }, 'unsupported_value', 'acceleration.mode'],
    ['a few-step head', { prompt: 'x', acceleration: { few_step: 2 } }, 'unsupported_value', 'acceleration.few_step'],
    ['acceleration as a string', { prompt: 'x', acceleration: 'off' }, 'invalid_value', 'acceleration'],
    ['malformed JSON', '{"prompt": ', 'invalid_json', null],
    ['an empty body', '', 'invalid_json', null],
    ['an array', [], 'invalid_value', null],
    ['a prototype', '{"prompt":"x","__proto__":{"a":1}}', 'invalid_json', null],
  ])('answers %s with 400', async (_name, body, code, param) => {
    expect(await refused(body)).toMatchObject(bad(code, param));
  });

  it('lists the sizes it draws', async () => {
    const { error } = await refused({ prompt: 'x', size: '512x512' });
    expect(error['message']).toContain('"auto", "64x64", "96x32", "128x128"');
  });

  it('answers an unknown model with 404', async () => {
    const answer = await refused({ prompt: 'x', model: 'dall-e-9' });
    expect(answer).toMatchObject({ status: 404, error: { type: 'invalid_request_error', code: 'model_not_found', param: 'model' } });
  });

  it('answers another content type with 415 and a large body with 413', async () => {
    const form = await gateway.app.inject({ method: 'POST', url: '/v1/images/generations', headers: { 'content-type': 'text/plain' }, payload: 'x' });
    expect([form.statusCode, form.json<{ error: { code: string } }>().error.code]).toEqual([415, 'unsupported_media_type']);
    const large = await gateway.post({ prompt: 'x', user: 'u'.repeat(300_000) });
    expect([large.statusCode, large.json<{ error: { code: string } }>().error.code]).toEqual([413, 'request_body_too_large']);
  });

  it('answers another method with 405 and says which are allowed', async () => {
    const reply = await gateway.app.inject({ method: 'GET', url: '/v1/images/generations' });
    expect(reply.statusCode).toBe(405);
    expect(reply.headers['allow']).toBe('POST');
    expect(reply.json()).toMatchObject({ error: { code: 'method_not_allowed' } });
  });

  it('answers 503 while loading and while draining, with a short retry-after', async () => {
    for (const [status, code] of [['loading', 'model_loading'], ['draining', 'draining'], ['failed', 'model_unavailable']] as const) {
      gateway.serving.status = status;
      const reply = await gateway.post({ prompt: 'x' });
      expect(reply.statusCode).toBe(503);
      expect(reply.json()).toMatchObject({ error: { type: 'server_error', code } });
      if (status !== 'failed') expect(Number(reply.headers['retry-after'])).toBeLessThanOrEqual(60);
    }
  });
});

interface Picture {
  b64_json: string;
  seed: number;
}
interface Answer {
  created: number;
  data: Picture[];
  usage: Record<string, unknown>;
}

describe('POST /v1/images/generations', () => {
  it('answers as the OpenAI schema says', async () => {
    const reply = await gateway.post({ prompt: 'a cat', model: 'tiny', n: 2, seed: 5 });
    expect(reply.statusCode).toBe(200);
    const json = reply.json<Answer>();
    expect(json).toMatchObject({
      background: 'opaque',
      output_format: 'png',
      size: '64x64',
      quality: 'medium',
      usage: {
        // "a cat", <|image_area|>4*4, boi; two pictures of 4x4 tokens.
        input_tokens: 10,
        output_tokens: 32,
        total_tokens: 42,
        input_tokens_details: { text_tokens: 10, image_tokens: 0 },
        acceleration: { mode: 'off' },
      },
    });
    expect(Number.isInteger(json.created)).toBe(true);
    expect(json.data.map((picture) => picture.seed)).toEqual([5, 6]);
    expect(reply.headers['x-job-id']).toBeTruthy();
    expect(Number(reply.headers['openai-processing-ms'])).toBeGreaterThanOrEqual(0);
    for (const { b64_json: base64 } of json.data) {
      expect(await sharp(Buffer.from(base64, 'base64')).metadata()).toMatchObject({ format: 'png', width: 64, height: 64 });
    }
  });

  it('takes null for absent, everywhere', async () => {
    const fields = ['model', 'n', 'size', 'quality', 'response_format', 'output_format', 'output_compression', 'background', 'moderation',
      'stream', 'partial_images', 'style', 'user', 'seed', 'negative_prompt', 'guidance_scale', 'num_inference_steps', 'acceleration'];
    const reply = await gateway.post({ prompt: 'x', ...Object.fromEntries(fields.map((name) => [name, null])) });
    expect(reply.statusCode).toBe(200);
    expect(reply.json<Answer>().data.map((picture) => picture.seed)).toEqual([12345]);
  });

  it('accepts what it may ignore, and fields it does not know', async () => {
    const reply = await gateway.post({ prompt: 'x', style: 'vivid', moderation: 'low', user: 'u', background: 'auto', stream: false, partial_images: 0,
      response_format: 'b64_json', acceleration: { mode: 'auto', few_step: 0 }, something: { else: 1 } });
    expect(reply.statusCode).toBe(200);
  });

  it('draws the advertised sizes, width first', async () => {
    const reply = await gateway.post({ prompt: 'x', size: '96x32', output_format: 'webp', output_compression: 0 });
    const [picture] = reply.json<Answer>().data;
    expect(await sharp(Buffer.from(picture!.b64_json, 'base64')).metadata()).toMatchObject({ format: 'webp', width: 96, height: 32 });
  });

  it('draws the same picture for a returned seed alone, also past the end of the seeds', async () => {
    const last = 2 ** 53 - 1;
    const both = (await gateway.post({ prompt: 'x', n: 2, seed: last })).json<Answer>();
    expect(both.data.map((picture) => picture.seed)).toEqual([last, 0]);
    const second = (await gateway.post({ prompt: 'x', seed: 0 })).json<Answer>();
    expect(second.data[0]!.b64_json).toBe(both.data[1]!.b64_json);
    expect(second.data[0]!.b64_json).not.toBe(both.data[0]!.b64_json);
  });

  it('hands the request to the engine as it was meant', async () => {
    await gateway.post({ prompt: 'ab', negative_prompt: 'c', guidance_scale: 4, num_inference_steps: 3, seed: 9 });
    const [spec] = gateway.engine.plans.flatMap((plan) => plan.admit);
    expect(spec).toMatchObject({ seed: 9, timesteps: 3, guidanceScale: 4, sampler: 'B', useNorm: true, gridHeight: 4, gridWidth: 4 });
    expect(spec!.promptRows.map((row) => [...row])).toEqual([
      [97, 98, 129, 52, 42, 52, 130],
      [99, 129, 52, 42, 52, 130],
    ]);
    await gateway.post({ prompt: 'ab', guidance_scale: 1 });
    expect(gateway.engine.plans.flatMap((plan) => plan.admit).at(-1)!.promptRows).toHaveLength(1);
  });

  it('maps quality to timesteps, unless they are named', async () => {
    const timesteps = async (body: object): Promise<number> => {
      expect((await gateway.post({ prompt: 'x', ...body })).statusCode).toBe(200);
      return gateway.engine.plans.flatMap((plan) => plan.admit).at(-1)!.timesteps;
    };
    expect(await timesteps({})).toBe(8);
    expect(await timesteps({ quality: 'hd' })).toBe(8);
    expect(await timesteps({ quality: 'low' })).toBe(4);
    expect(await timesteps({ quality: 'low', num_inference_steps: 6 })).toBe(6);
  });

  it('keeps a harmless x-request-id and replaces any other', async () => {
    const ask = async (id: string): Promise<unknown> =>
      (await gateway.app.inject({ url: '/healthz', headers: { 'x-request-id': id } })).headers['x-request-id'];
    expect(await ask('abc-1')).toBe('abc-1');
    expect(await ask('a b\tc')).toMatch(/^req_/);
  });
});

describe('POST /v1/images/generations, under pressure', () => {
  it('answers queue_full with 429, and serves those who wait', async () => {
    await gateway.close();
    gateway = await createGateway({ stepMs: 2, maxBatch: 1, queue: 2 });
    const replies = await Promise.all(Array.from({ length: 6 }, (_, seed) => gateway.post({ prompt: 'x', seed })));
    const full = replies.filter((reply) => reply.statusCode === 429);
    expect(full.length).toBeGreaterThanOrEqual(3);
    expect(full[0]!.json()).toMatchObject({ error: { type: 'rate_limit_error', code: 'queue_full', param: null } });
    expect(Number(full[0]!.headers['retry-after'])).toBeLessThanOrEqual(60);
    expect(replies.filter((reply) => reply.statusCode === 200)).toHaveLength(6 - full.length);
    expect(await gateway.metric('ardiff_requests_rejected_total{reason="queue_full"}')).toBe(full.length);
  });

  it('refuses a picture that could never fit', async () => {
    await gateway.close();
    gateway = await createGateway({ kvSequences: 1 });
    expect(await refused({ prompt: 'a'.repeat(400) })).toMatchObject({ status: 400, error: { code: 'request_too_large' } });
    expect((await gateway.post({ prompt: 'a'.repeat(40) })).statusCode).toBe(200);
  });

  it('answers an engine failure with a typed 500 and goes on', async () => {
    gateway.engine.failNextStep('internal');
    expect(await refused({ prompt: 'x' })).toMatchObject({ status: 500, error: { type: 'server_error', code: 'engine_error' } });
    gateway.engine.failNextStep('out_of_memory');
    const reply = await gateway.post({ prompt: 'x' });
    expect(reply.json()).toMatchObject({ error: { code: 'out_of_memory' } });
    expect(reply.headers['x-should-retry']).toBe('false');
    expect((await gateway.post({ prompt: 'x' })).statusCode).toBe(200);
  });

  it('cancels when the client goes away, and frees the slot', async () => {
    await gateway.close();
    gateway = await createGateway({ stepMs: 10 });
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = gateway.app.server.address() as AddressInfo;
    const call = httpRequest({ port, host: '127.0.0.1', method: 'POST', path: '/v1/images/generations', headers: { 'content-type': 'application/json' } });
    call.on('error', () => undefined);
    call.end(JSON.stringify({ prompt: 'x', n: 3 }));
    await until(() => gateway.backend.queueOf('tiny').running === 1);
    call.destroy();
    await until(() => gateway.backend.queueOf('tiny').running === 0);
    await until(() => gateway.engine.live.size === 0);
    expect(gateway.engine.plans.flatMap((plan) => plan.vae)).toHaveLength(0);
    expect(await gateway.metric('ardiff_cancellations_total{reason="disconnect",phase="running"}')).toBe(1);
    expect(await gateway.metric('ardiff_requests_total{model="tiny",api="images.generations",outcome="cancelled"}')).toBe(1);
    expect((await gateway.post({ prompt: 'x' })).statusCode).toBe(200);
  });

  it('gives each of 16 concurrent requests the picture it gets alone, with preemption on the way', async () => {
    const bodies = Array.from({ length: 16 }, (_, i) => ({ prompt: `p${i % 5}`.repeat(1 + i), size: '128x128', seed: i, num_inference_steps: 2 + (i % 3), guidance_scale: 1 + (i % 4) }));
    const alone: string[] = [];
    for (const body of bodies) alone.push((await gateway.post(body)).json<Answer>().data[0]!.b64_json);
    await gateway.close();
    gateway = await createGateway({ kvSequences: 3 });
    const together = await Promise.all(bodies.map((body) => gateway.post(body)));
    expect(together.map((reply) => reply.json<Answer>().data[0]!.b64_json)).toEqual(alone);
    expect(await gateway.metric('ardiff_preemptions_total')).toBeGreaterThan(0);
  });
});
