import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { randomIntegers } from '../support/specs.js';
import { parseSse } from '../support/sse.js';

let gateway: Gateway;

beforeAll(async () => {
  gateway = await createGateway();
});

afterAll(async () => {
  await gateway.close();
});

/** JSON fragments, legal and not, that have hurt servers before. */
const VALUES = [
  'null', 'true', '0', '-0', '1', '2', '-1', '0.5', '1e400', '1e-400', '9007199254740993', '""', '"x"', '"\\u0000"', '"\\ud800"', '"\\uffff"', '"auto"', '"64x64"',
  '"-1x64"', '"png"', '"constructor"', '"__proto__"', '[]', '[1]', '{}', '{"mode":"auto"}', '{"mode":{}}', '{"include_progress":true}', '{"include_progress":"yes"}', '{"toString":null}', '"\u202e\u200d👩‍👩‍👧"', '"<|image_area|>"',
];
const FIELDS = [
  'prompt', 'model', 'n', 'size', 'quality', 'response_format', 'output_format', 'output_compression', 'background', 'moderation', 'stream', 'partial_images', 'stream_options',
  'style', 'user', 'seed', 'negative_prompt', 'guidance_scale', 'num_inference_steps', 'acceleration', 'constructor', 'toString', 'hasOwnProperty', '',
];

describe('POST /v1/images/generations, whatever comes', () => {
  it('answers every body with 200 or an enveloped 4xx', { timeout: 60_000 }, async () => {
    const below = randomIntegers(42);
    const seen = new Set<number>();
    let streams = 0;
    for (let round = 0; round < 400; round += 1) {
      const entries = Array.from({ length: below(5) }, () => `${JSON.stringify(FIELDS[below(FIELDS.length)])}:${VALUES[below(VALUES.length)]!}`);
      const always = [...(below(4) > 0 ? ['"prompt":"a cat"'] : []), ...(below(3) === 0 ? ['"stream":true'] : [])];
      const body = `{${[...always, ...entries].join(',')}}`;
      const reply = await gateway.post(body);
      seen.add(reply.statusCode);
      if (reply.headers['content-type'] === 'text/event-stream; charset=utf-8') {
        expect(parseSse(reply.body).events.at(-1)?.event, body).toBe('image_generation.completed');
        streams += 1;
        continue;
      }
      expect([200, 400, 404], `${reply.statusCode} for ${body}: ${reply.body.slice(0, 200)}`).toContain(reply.statusCode);
      if (reply.statusCode !== 200) expect(reply.json(), body).toMatchObject({ error: { type: 'invalid_request_error', code: expect.any(String) } });
    }
    expect(seen).toEqual(new Set([200, 400, 404]));
    expect(streams).toBeGreaterThan(0);
  });

  it('survives deep nesting and bytes that are no text', async () => {
    const deep = `{"prompt":"x","extra":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
    expect([200, 400]).toContain((await gateway.post(deep)).statusCode);
    const bytes = await gateway.app.inject({
      method: 'POST',
      url: '/v1/images/generations',
      headers: { 'content-type': 'application/json' },
      payload: Buffer.from([0x7b, 0xff, 0xfe, 0x00, 0x7d]),
    });
    expect(bytes.statusCode).toBe(400);
  });
});

/** What arrives in headers when somebody tries, or when a proxy breaks. */
const HEADER_VALUES = ['', ' ', '0', '1', '-1', '1e9', '9'.repeat(30), 'a', 'respond-async', 'wait=1, respond-async', 'wait=x', '\u00ff', 'x'.repeat(4000), '%00', '"', ',', ';=', 'null', '{}', 'e-1', 'e-'];
const HEADERS = ['prefer', 'idempotency-key', 'x-stainless-retry-count', 'x-stainless-timeout', 'last-event-id', 'authorization', 'x-request-id'];
const IDS = ['none', '..', '%2e%2e', '%00', '__proto__', 'constructor', 'x'.repeat(99), '%F0%9F%8D%8E', "'--", '1'];

describe('headers and job routes, whatever comes', () => {
  it('answers everything with a picture, a job, or an enveloped 4xx', { timeout: 60_000 }, async () => {
    const below = randomIntegers(7);
    const seen = new Set<number>();
    const job = (await gateway.app.inject({ method: 'POST', url: '/v1/images/generations', headers: { prefer: 'respond-async' }, payload: { prompt: 'x' } })).json<{ id: string }>();
    for (let round = 0; round < 400; round += 1) {
      const headers = Object.fromEntries(Array.from({ length: below(3) }, () => [HEADERS[below(HEADERS.length)]!, HEADER_VALUES[below(HEADER_VALUES.length)]!]));
      const id = below(3) === 0 ? job.id : IDS[below(IDS.length)]!;
      const [method, url, payload] = (
        [
          ['POST', '/v1/images/generations', { prompt: 'a', seed: round }],
          ['GET', `/v1/jobs/${id}`, undefined],
          ['GET', `/v1/jobs/${id}/events`, undefined],
          ['POST', `/v1/jobs/${id}/cancel`, below(2) === 0 ? { any: 'thing' } : undefined],
        ] as const
      )[below(4)]!;
      const reply = await gateway.app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
      seen.add(reply.statusCode);
      const what = `${reply.statusCode} for ${method} ${url} ${JSON.stringify(headers).slice(0, 200)}: ${reply.body.slice(0, 200)}`;
      expect([200, 202, 400, 404, 409], what).toContain(reply.statusCode);
      if (reply.statusCode >= 400) expect(reply.json(), what).toMatchObject({ error: { type: 'invalid_request_error', code: expect.any(String) } });
    }
    expect(seen).toEqual(new Set([200, 202, 400, 404, 409]));
    expect((await gateway.post({ prompt: 'x' })).statusCode).toBe(200);
  });
});
