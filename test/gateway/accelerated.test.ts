import { afterEach, describe, expect, it } from 'vitest';
import type { ImagesResponse, ModelDescription } from '../../src/gateway/schemas.js';
import { createGateway, type Gateway, type GatewayOptions } from '../support/gateway-harness.js';
import { parseSse } from '../support/sse.js';
import { StreamClient } from '../support/stream-client.js';

let gateway: Gateway;

const start = async (options: GatewayOptions = {}): Promise<void> => {
  gateway = await createGateway({ accelerator: {}, ...options });
};

afterEach(async () => {
  await gateway.close();
});

const draw = async (body: object = {}): Promise<ImagesResponse> => {
  const reply = await gateway.post({ prompt: 'a cat', seed: 5, ...body });
  expect([reply.statusCode, reply.body.slice(0, 200)]).toEqual([200, expect.any(String)]);
  return reply.json<ImagesResponse>();
};

describe('usage.acceleration', () => {
  it('says what was done: mode, jumps, and what became of the drafts', async () => {
    await start();
    const { usage } = await draw({ n: 2 });
    const { acceleration } = usage;
    expect(acceleration).toMatchObject({ mode: 'relaxed', few_step: 1 });
    // One token a round comes from the target, the others are accepted drafts.
    expect(acceleration.rounds + acceleration.accepted_tokens).toBe(usage.output_tokens);
    expect(acceleration.draft_tokens).toBeGreaterThanOrEqual(acceleration.accepted_tokens);
    expect(acceleration.gate_stops).toBeGreaterThan(0);
    // One row, one jump, no guidance.
    expect(gateway.engine.plans.flatMap((plan) => plan.admit)).toMatchObject([{ fewStep: 1 }, { fewStep: 1 }]);
    expect(gateway.engine.plans.flatMap((plan) => plan.admit.map(({ promptRows }) => promptRows.length))).toEqual([1, 1]);
  });

  it.each([
    [{ acceleration: { mode: 'off' } }, { mode: 'off', few_step: 0, rounds: 0, draft_tokens: 0, accepted_tokens: 0, gate_stops: 0 }],
    [{ acceleration: { mode: 'off', few_step: 2 } }, { mode: 'off', few_step: 2, rounds: 0 }],
    [{ acceleration: { mode: 'exact' } }, { mode: 'exact', few_step: 0 }],
    [{ guidance_scale: 4 }, { mode: 'off', few_step: 0 }],
    [{ quality: 'high' }, { mode: 'off', few_step: 0 }],
  ])('%j', async (body, expected) => {
    await start();
    expect((await draw(body)).usage.acceleration).toMatchObject(expected);
  });

  it('refuses what cannot be, before anything is drawn', async () => {
    await start();
    const reply = await gateway.post({ prompt: 'x', acceleration: { few_step: 1 }, num_inference_steps: 20 });
    expect([reply.statusCode, reply.json()]).toEqual([400, { error: expect.objectContaining({ code: 'unsupported_value', param: 'num_inference_steps' }) }]);
    expect(gateway.engine.plans).toEqual([]);
  });

  it('is the same in a stream, counted over the pictures that are finished', async () => {
    await start();
    const whole = (await draw({ n: 2 })).usage.acceleration;
    const reply = await gateway.post({ prompt: 'a cat', seed: 5, n: 2, stream: true });
    const usages = parseSse(reply.body).events.map(({ data }) => (data as unknown as ImagesResponse).usage.acceleration);
    expect(usages).toHaveLength(2);
    expect(usages[0]!.rounds).toBeLessThan(usages[1]!.rounds);
    expect(usages[1]).toEqual(whole);
  });

  it('tells a socket which tokens were drafts, and the same counts', async () => {
    await start();
    const whole = (await draw()).usage.acceleration;
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const client = await StreamClient.open((gateway.app.server.address() as { port: number }).port);
    client.send({ t: 'hello' });
    client.send({ t: 'generate', id: 'a', request: { prompt: 'a cat', seed: 5 } });
    expect(await client.frame('completed')).toMatchObject({ usage: { acceleration: whole } });
    const flags = client.all('tokens').flatMap((frame) => {
      const accepted = frame['accepted'] as boolean[];
      expect(accepted).toHaveLength((frame['to'] as number) - (frame['from'] as number));
      return accepted;
    });
    expect([flags.length, flags.filter(Boolean).length]).toEqual([16, whole.accepted_tokens]);
    client.socket.close();
  });
});

describe('--throughput', () => {
  it('draws those who come into a crowd by few steps without drafts, and says so', async () => {
    await start({ throughput: true, stepMs: 2 });
    const { usage } = await draw({ n: 8 });
    const specs = gateway.engine.plans.flatMap((plan) => plan.admit);
    expect(specs.map(({ speculation }) => speculation !== undefined)).toEqual([true, true, true, true, false, false, false, false]);
    expect(usage.acceleration).toMatchObject({ mode: 'relaxed', few_step: 1, throughput: true });
    // Of the four that drafted.
    expect(usage.acceleration.rounds + usage.acceleration.accepted_tokens).toBe(4 * 16);
  });

  it('leaves alone what a request asks for, and whoever comes alone', async () => {
    await start({ throughput: true, stepMs: 2 });
    expect((await draw({ n: 8, acceleration: { mode: 'relaxed', few_step: 1 } })).usage.acceleration).not.toHaveProperty('throughput');
    expect((await draw()).usage.acceleration).not.toHaveProperty('throughput');
  });
});

describe('GET /v1/models', () => {
  it('lists what is calibrated, and what quality means', async () => {
    await start();
    const [model] = (await gateway.app.inject('/v1/models')).json<{ data: ModelDescription[] }>().data;
    expect(model!.accelerations).toHaveLength(8);
    expect(model!.accelerations[0]).toEqual({ mode: 'relaxed', few_step: 1, speedup: 4.5, passed: true, max_draft_tokens: 6 });
    expect(model!.quality_presets).toMatchObject({
      low: { acceleration: { mode: 'relaxed', few_step: 1 } },
      medium: { acceleration: { mode: 'relaxed', few_step: 1 } },
      high: { acceleration: { mode: 'off', few_step: 0 } },
    });
  });
});
