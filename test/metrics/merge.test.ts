import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../src/metrics/metrics.js';
import { merge } from '../../src/metrics/merge.js';
import { collectWorkerProcess } from '../../src/metrics/process.js';
import { parseExposition, valueOf } from '../support/exposition.js';

/** As it comes out of a process boundary. */
const sent = async (registry: Registry) => JSON.parse(JSON.stringify(await registry.getMetricsAsJSON())) as Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

function workerRegistry(): Registry {
  const registry = new Registry();
  collectWorkerProcess(registry, 'worker-0');
  new Counter({ name: 'ardiff_image_tokens_total', help: 'Tokens.', labelNames: ['model'], registers: [registry] }).inc({ model: 'tiny' }, 64);
  const stage = new Histogram({ name: 'ardiff_stage_duration_seconds', help: 'Stages.', labelNames: ['stage'], buckets: [0.1, 1], registers: [registry] });
  stage.observe({ stage: 'ar' }, 0.05);
  stage.observe({ stage: 'ar' }, 5);
  return registry;
}

describe('one exposition of several processes', () => {
  it('is the text of one registry when there is but one', async () => {
    const registry = workerRegistry();
    const text = await registry.metrics();
    const merged = await merge([await sent(registry)]).metrics();
    const stable = (all: string): string[] => all.split('\n').filter((line) => /ardiff_/.test(line));
    expect(stable(merged)).toEqual(stable(text));
    expect(stable(merged).length).toBeGreaterThan(8);
  });

  it('puts equal names under one header and keeps processes apart by label', async () => {
    const metrics = createMetrics();
    const worker = workerRegistry();
    metrics.addSource(() => sent(worker));
    const text = await metrics.render();
    parseExposition(text);
    expect(text.match(/^# TYPE process_resident_memory_bytes gauge$/gm)).toHaveLength(1);
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    expect(text).toMatch(/^process_resident_memory_bytes\{worker="worker-0"\} \d+$/m);
    expect(valueOf(text, 'ardiff_image_tokens_total{model="tiny"}')).toBe(64);
    expect(valueOf(text, 'ardiff_stage_duration_seconds_bucket{stage="ar",le="0.1"}')).toBe(1);
    expect(valueOf(text, 'ardiff_stage_duration_seconds_bucket{stage="ar",le="+Inf"}')).toBe(2);
    expect(valueOf(text, 'ardiff_stage_duration_seconds_sum{stage="ar"}')).toBeCloseTo(5.05);
  });

  it('goes on without a source that fails, hangs or has left', async () => {
    const metrics = createMetrics();
    const registry = new Registry();
    new Gauge({ name: 'ardiff_left', help: 'Left.', registers: [registry] }).set(1);
    const leave = metrics.addSource(() => sent(registry));
    metrics.addSource(() => Promise.reject(new Error('the worker died')));
    metrics.addSource(() => new Promise(() => undefined));
    const begin = performance.now();
    expect(valueOf(await metrics.render(), 'ardiff_left')).toBe(1);
    expect(performance.now() - begin).toBeLessThan(10_000);
    leave();
    const text = await metrics.render();
    expect(valueOf(text, 'ardiff_left')).toBeNull();
    expect(valueOf(text, 'process_resident_memory_bytes')).toBeGreaterThan(0);
  });
});
