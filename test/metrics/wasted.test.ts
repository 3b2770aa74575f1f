import { afterEach, describe, expect, it } from 'vitest';
import { prepareRequest } from '../../src/gateway/image-request.js';
import type { ImagesRequest } from '../../src/gateway/schemas.js';
import type { JobHandle } from '../../src/jobs/backend.js';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { until } from '../support/until.js';

let gateway: Gateway;

afterEach(async () => {
  await gateway.close();
});

const submit = (body: ImagesRequest): JobHandle => gateway.backend.submit(prepareRequest(body, gateway.serving.models[0]!, () => 1)).job;

const wasted = (reason: string): Promise<number | null> => gateway.metric(`ardiff_wasted_gpu_seconds_total{reason="${reason}"}`);

const engineSeconds = (): Promise<number | null> => gateway.metric('ardiff_engine_seconds_total{model="tiny"}');

describe('wasted engine time', () => {
  it('is none when everybody gets a picture', async () => {
    gateway = await createGateway();
    await Promise.all([gateway.post({ prompt: 'a', n: 3 }), gateway.post({ prompt: 'b' })]);
    expect(await wasted('disconnect')).toBe(0);
    expect(await wasted('preemption')).toBe(0);
    expect(await gateway.metric('ardiff_cancel_latency_seconds_count')).toBeNull();
  });

  it('is all of it when the only job is cancelled', async () => {
    gateway = await createGateway({ stepMs: 5 });
    const job = submit({ prompt: 'x', n: 3 });
    await until(async () => ((await gateway.metric('ardiff_image_tokens_total')) ?? 0) > 6);
    job.cancel('api');
    // One slot per picture, each free when the step began that could give it away.
    await until(async () => (await gateway.metric('ardiff_cancel_latency_seconds_count{model="tiny"}')) === 3);
    expect(await wasted('api')).toBeCloseTo((await engineSeconds())!, 9);
    expect(await wasted('api')).toBeGreaterThan(0);
    expect(await gateway.metric('ardiff_cancel_latency_seconds_sum{model="tiny"}')).toBeLessThan(3 * 2);
    expect(await gateway.metric('ardiff_cancellations_total{reason="api",phase="running"}')).toBe(1);
  });

  it('counts the finished pictures of a job that is cancelled before its last one', async () => {
    gateway = await createGateway({ stepMs: 2, maxBatch: 1 });
    const job = submit({ prompt: 'x', n: 2 });
    await until(() => job.log.since(0).entries.some(({ event }) => event.kind === 'image'));
    job.cancel('timeout');
    await until(() => gateway.engine.live.size === 0);
    expect(await wasted('timeout')).toBeCloseTo((await engineSeconds())!, 9);
  });

  it('is the equal half of two equal jobs', async () => {
    gateway = await createGateway({ stepMs: 2 });
    const [kept, lost] = [submit({ prompt: 'x', seed: 1, negative_prompt: 'y' }), submit({ prompt: 'y', seed: 2, negative_prompt: 'x' })];
    await until(async () => ((await gateway.metric('ardiff_image_tokens_total')) ?? 0) >= 8);
    lost.cancel('disconnect');
    await until(() => gateway.engine.live.size === 1);
    const both = (await wasted('disconnect'))!;
    await kept.result;
    // Steps that drew for both, at 10 ms a round: half of each, give or take the prompts' steps.
    expect(both).toBeGreaterThanOrEqual(4 * 0.005);
    expect(both).toBeLessThan((await engineSeconds())! / 2);
    expect(await wasted('disconnect')).toBe(both);
  });

  it('says nothing of a job that was only waiting', async () => {
    gateway = await createGateway({ stepMs: 5, maxBatch: 1 });
    const running = submit({ prompt: 'x' });
    const waiting = submit({ prompt: 'y' });
    await until(() => running.status === 'running');
    waiting.cancel('api');
    await running.result;
    expect(await wasted('api')).toBe(0);
    expect(await gateway.metric('ardiff_cancel_latency_seconds_count')).toBeNull();
    expect(await gateway.metric('ardiff_cancellations_total{reason="api",phase="queued"}')).toBe(1);
  });

  it('counts what preempted pictures compute again', async () => {
    gateway = await createGateway({ kvSequences: 3 });
    const replies = await Promise.all(Array.from({ length: 8 }, (_, seed) => gateway.post({ prompt: `p${seed}`, size: '128x128', seed })));
    for (const reply of replies) expect(reply.statusCode).toBe(200);
    expect(await gateway.metric('ardiff_preemptions_total')).toBeGreaterThan(0);
    expect(await wasted('preemption')).toBeGreaterThan(0);
    expect(await wasted('preemption')).toBeLessThan((await engineSeconds())! / 2);
  });

  it('counts a job whose step broke off', async () => {
    gateway = await createGateway({ stepMs: 5 });
    const job = submit({ prompt: 'x' });
    await until(async () => ((await gateway.metric('ardiff_image_tokens_total')) ?? 0) > 2);
    const before = (await engineSeconds())!;
    gateway.engine.failNextStep('internal');
    await expect(job.result).rejects.toMatchObject({ code: 'engine_error' });
    expect(await wasted('error')).toBeGreaterThanOrEqual(before);
    expect(await gateway.metric('ardiff_step_failures_total{model="tiny"}')).toBe(1);
  });

  it('names a shutdown', async () => {
    gateway = await createGateway({ stepMs: 5 });
    const job = submit({ prompt: 'x', n: 2 });
    await until(() => job.status === 'running');
    await gateway.backend.drain(0);
    await expect(job.result).rejects.toMatchObject({ code: 'draining' });
    expect(await gateway.metric('ardiff_cancellations_total{reason="shutdown",phase="running"}')).toBe(1);
  });
});
