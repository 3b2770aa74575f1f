import type { AddressInfo } from 'node:net';
import OpenAI, { BadRequestError, InternalServerError, NotFoundError, RateLimitError } from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGateway, type Gateway, type GatewayOptions } from '../support/gateway-harness.js';
import { until } from '../support/until.js';

let gateway: Gateway;
let client: OpenAI;

async function start(options: GatewayOptions = {}): Promise<void> {
  gateway = await createGateway(options);
  await gateway.app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = gateway.app.server.address() as AddressInfo;
  client = new OpenAI({ apiKey: 'any', baseURL: `http://127.0.0.1:${port}/v1`, maxRetries: 0 });
}

beforeEach(() => start());

afterEach(() => gateway.close());

describe('the openai client', () => {
  it('gets its own error classes, with code, type and param', async () => {
    const cases = [
      [{ prompt: 'x', size: '512x512' }, BadRequestError, { code: 'unsupported_value', param: 'size', type: 'invalid_request_error' }],
      [{ prompt: 'x', model: 'none' }, NotFoundError, { code: 'model_not_found', param: 'model' }],
    ] as const;
    for (const [body, type, fields] of cases) {
      const error: unknown = await client.images.generate(body as never).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(type);
      expect(error).toMatchObject({ ...fields, requestID: expect.any(String) });
    }
  });

  it('retries a failed engine by itself, and not what cannot succeed', async () => {
    const patient = client.withOptions({ maxRetries: 2 });
    gateway.engine.failNextStep('internal');
    expect((await patient.images.generate({ prompt: 'x' })).data).toHaveLength(1);
    gateway.engine.failNextStep('out_of_memory');
    const error: unknown = await patient.images.generate({ prompt: 'x' }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InternalServerError);
    expect(error).toMatchObject({ code: 'out_of_memory' });
  });

  it('is told when to come back', async () => {
    await gateway.close();
    await start({ queue: 0 });
    const error: unknown = await client.images.generate({ prompt: 'x' }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RateLimitError);
    expect((error as RateLimitError).headers.get('retry-after')).toBe('1');
  });

  it('draws, and passes unknown fields through both ways', async () => {
    const extras = { seed: 3, num_inference_steps: 2, guidance_scale: 2 };
    const answer = await client.images.generate({ prompt: 'a cat', n: 2, size: 'auto', quality: 'low', output_format: 'webp', user: 'me', ...extras } as never);
    expect(answer._request_id).toMatch(/^req_/);
    expect(answer.usage).toMatchObject({ input_tokens: 10, output_tokens: 32 });
    expect(answer.data?.map((image) => (image as { seed?: number }).seed)).toEqual([3, 4]);
    expect(Buffer.from(answer.data![0]!.b64_json!, 'base64').subarray(8, 12).toString()).toBe('WEBP');
  });

  it('lists models', async () => {
    expect((await client.models.list()).data.map((model) => model.id)).toEqual(['tiny']);
    expect(await client.models.retrieve('tiny')).toMatchObject({ object: 'model', prompt_mode: 'text' });
  });

  it('cancels by aborting', async () => {
    await gateway.close();
    await start({ stepMs: 10 });
    const controller = new AbortController();
    const lost = client.images.generate({ prompt: 'x', n: 4 }, { signal: controller.signal }).catch((thrown: unknown) => thrown);
    await until(() => gateway.backend.queueOf('tiny').running > 0);
    controller.abort();
    expect(await lost).toBeInstanceOf(Error);
    await until(() => gateway.backend.queueOf('tiny').running === 0 && gateway.engine.live.size === 0);
    expect(gateway.engine.plans.flatMap((plan) => plan.vae)).toEqual([]);
  });
});
