import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';

let gateway: Gateway;

beforeEach(async () => {
  gateway = await createGateway();
});

afterEach(async () => {
  await gateway.close();
});

describe('/metrics after a known workload', () => {
  it('counts what was done', async () => {
    // Two pictures of 16 tokens, 3 timesteps, two rows: "ab" + prefix = 7 ids, "" + prefix = 5.
    const reply = await gateway.post({ prompt: 'ab', n: 2, num_inference_steps: 3 });
    expect(reply.statusCode).toBe(200);
    await gateway.post({ prompt: '' });
    await gateway.post({ prompt: 'x', model: 'other' });
    const value = (sample: string): Promise<number | null> => gateway.metric(sample);
    expect(await value('ardiff_requests_total{model="tiny",api="images.generations",outcome="ok"}')).toBe(1);
    expect(await value('ardiff_requests_total{model="unknown",api="images.generations",outcome="client_error"}')).toBe(2);
    expect(await value('ardiff_images_total{model="tiny",format="png"}')).toBe(2);
    expect(await value('ardiff_image_pixels_total{model="tiny",format="png"}')).toBe(2 * 64 * 64);
    expect(await value('ardiff_prompt_tokens_total{model="tiny"}')).toBe(12);
    expect(await value('ardiff_image_tokens_total{model="tiny"}')).toBe(32);
    expect(await value('ardiff_diffusion_steps_total{model="tiny"}')).toBe(2 * 16 * 3 * 2);
    // The second picture attaches to all but the last token of both prompts.
    expect(await value('ardiff_prefix_cache_queries_total')).toBe(2 * 12);
    expect(await value('ardiff_prefix_cache_hits_total')).toBe(6 + 4);
    expect(await value('ardiff_time_to_first_token_seconds_count{model="tiny"}')).toBe(2);
    expect(await value('ardiff_time_per_image_token_seconds_count{model="tiny"}')).toBe(2 * 15);
    expect(await value('ardiff_stage_duration_seconds_count{model="tiny",stage="encode"}')).toBe(2);
    expect(await value('ardiff_requests_running{model="tiny"}')).toBe(0);
    expect(await value('ardiff_requests_waiting{model="tiny"}')).toBe(0);
    expect(await value('ardiff_queue_capacity{model="tiny"}')).toBe(64);
    expect(await value('ardiff_preemptions_total')).toBe(0);
    expect(await value('http_request_duration_seconds_count{method="POST",route="/v1/images/generations",status="200"}')).toBe(1);
    expect(await value('http_request_duration_seconds_count{method="POST",route="/v1/images/generations",status="400"}')).toBe(1);
  });

  it('accounts for every block', async () => {
    await gateway.post({ prompt: 'ab' });
    const [free, reclaimable, used] = await Promise.all(
      ['free', 'reclaimable', 'used'].map((state) => gateway.metric(`ardiff_kv_cache_blocks{state="${state}"}`)),
    );
    expect(used).toBe(0);
    expect(reclaimable).toBe(2);
    expect(free! + reclaimable!).toBe(16 * 10);
    expect(await gateway.metric('ardiff_kv_cache_usage_ratio')).toBeCloseTo(2 / 160);
  });

  it('never labels by what a client typed', async () => {
    await gateway.post({ prompt: 'secret words', user: 'someone', model: 'evil"} 1' });
    await gateway.app.inject('/nowhere/secret');
    const text = await gateway.metrics.registry.metrics();
    for (const word of ['secret', 'someone', 'evil']) expect(text).not.toContain(word);
  });

  it('keeps to one naming: prefix, base units, totals', async () => {
    const names = (await gateway.metrics.registry.getMetricsAsJSON()).map((metric) => metric.name);
    for (const name of names) {
      expect(name).toMatch(/^(ardiff|http|process|nodejs)_[a-z0-9_]+$/);
    }
    expect(names).toContain('process_cpu_seconds_total');
    expect(names).toContain('ardiff_requests_rejected_total');
  });
});
