import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { randomIntegers } from '../support/specs.js';

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
  '"-1x64"', '"png"', '"constructor"', '"__proto__"', '[]', '[1]', '{}', '{"mode":"auto"}', '{"mode":{}}', '{"toString":null}', '"\u202e\u200d👩‍👩‍👧"', '"<|image_area|>"',
];
const FIELDS = [
  'prompt', 'model', 'n', 'size', 'quality', 'response_format', 'output_format', 'output_compression', 'background', 'moderation', 'stream', 'partial_images',
  'style', 'user', 'seed', 'negative_prompt', 'guidance_scale', 'num_inference_steps', 'acceleration', 'constructor', 'toString', 'hasOwnProperty', '',
];

describe('POST /v1/images/generations, whatever comes', () => {
  it('answers every body with 200 or an enveloped 4xx', { timeout: 60_000 }, async () => {
    const below = randomIntegers(42);
    const seen = new Set<number>();
    for (let round = 0; round < 400; round += 1) {
      const entries = Array.from({ length: below(5) }, () => `${JSON.stringify(FIELDS[below(FIELDS.length)])}:${VALUES[below(VALUES.length)]!}`);
      const body = `{${[...(below(4) > 0 ? ['"prompt":"a cat"'] : []), ...entries].join(',')}}`;
      const reply = await gateway.post(body);
      seen.add(reply.statusCode);
      expect([200, 400, 404], `${reply.statusCode} for ${body}: ${reply.body.slice(0, 200)}`).toContain(reply.statusCode);
      if (reply.statusCode !== 200) expect(reply.json(), body).toMatchObject({ error: { type: 'invalid_request_error', code: expect.any(String) } });
    }
    expect(seen).toEqual(new Set([200, 400, 404]));
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
