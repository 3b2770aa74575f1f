import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';

/** Seconds; written out, so that a change of a bucket is a change of this list. */
const REQUEST = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 480, 600, 1200];
const QUEUE = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const TOKEN = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5];
const STAGE = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const BATCH = [1, 2, 4, 8, 16, 32, 64];
const ROUND = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16];
const ENTROPY = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/** What dashboards and alerts of others may rely on: name → [type, labels, buckets]. docs/operations.md says what each means. */
const CONTRACT: Readonly<Record<string, [type: string, labels: string[], buckets?: readonly number[]]>> = {
  ardiff_requests_total: ['counter', ['model', 'api', 'outcome']],
  ardiff_request_duration_seconds: ['histogram', ['model', 'api', 'stream'], REQUEST],
  ardiff_request_queue_seconds: ['histogram', ['model', 'priority'], QUEUE],
  ardiff_time_to_first_token_seconds: ['histogram', ['model'], QUEUE],
  ardiff_time_to_first_preview_seconds: ['histogram', ['model', 'transport'], REQUEST],
  ardiff_time_per_image_token_seconds: ['histogram', ['model'], TOKEN],
  ardiff_stage_duration_seconds: ['histogram', ['model', 'stage'], STAGE],
  ardiff_images_total: ['counter', ['model', 'format']],
  ardiff_image_pixels_total: ['counter', ['model', 'format']],
  ardiff_prompt_tokens_total: ['counter', ['model']],
  ardiff_image_tokens_total: ['counter', ['model']],
  ardiff_diffusion_steps_total: ['counter', ['model']],
  ardiff_requests_running: ['gauge', ['model', 'worker']],
  ardiff_requests_waiting: ['gauge', ['model', 'priority']],
  ardiff_queue_capacity: ['gauge', ['model']],
  ardiff_queue_eta_seconds: ['gauge', ['model']],
  ardiff_requests_rejected_total: ['counter', ['reason']],
  ardiff_cancellations_total: ['counter', ['reason', 'phase']],
  ardiff_cancel_latency_seconds: ['histogram', ['model'], STAGE],
  ardiff_wasted_gpu_seconds_total: ['counter', ['model', 'reason']],
  ardiff_batch_size: ['histogram', ['model', 'stage'], BATCH],
  ardiff_batch_slots: ['gauge', ['model', 'state']],
  ardiff_kv_cache_usage_ratio: ['gauge', ['model', 'worker']],
  ardiff_kv_cache_blocks: ['gauge', ['model', 'worker', 'state']],
  ardiff_preemptions_total: ['counter', ['model', 'worker']],
  ardiff_prefix_cache_queries_total: ['counter', ['model', 'worker']],
  ardiff_prefix_cache_hits_total: ['counter', ['model', 'worker']],
  ardiff_spec_decode_rounds_total: ['counter', ['model']],
  ardiff_spec_decode_drafts_total: ['counter', ['model']],
  ardiff_spec_decode_draft_tokens_total: ['counter', ['model']],
  ardiff_spec_decode_accepted_tokens_total: ['counter', ['model']],
  ardiff_spec_decode_accepted_tokens_per_pos_total: ['counter', ['model', 'position']],
  ardiff_spec_decode_tokens_per_round: ['histogram', ['model'], ROUND],
  ardiff_spec_decode_gate_stops_total: ['counter', ['model']],
  ardiff_spec_decode_entropy_ratio: ['histogram', ['model', 'side'], ENTROPY],
  ardiff_previews_total: ['counter', ['transport', 'result']],
  ardiff_ws_connections: ['gauge', []],
  ardiff_ws_buffered_bytes: ['gauge', []],
  ardiff_ws_resumes_total: ['counter', ['result']],
  ardiff_preview_seconds_total: ['counter', ['model']],
  ardiff_worker_up: ['gauge', ['worker']],
  ardiff_worker_restarts_total: ['counter', ['reason']],
  ardiff_model_load_seconds: ['gauge', ['model', 'dtype']],
  ardiff_model_loaded: ['gauge', ['model', 'dtype']],
  ardiff_jobs: ['gauge', ['state']],
  ardiff_job_redeliveries_total: ['counter', []],
  ardiff_oldest_job_age_seconds: ['gauge', []],
  ardiff_build_info: ['gauge', ['version', 'commit', 'cuda', 'arch']],
  http_request_duration_seconds: ['histogram', ['method', 'route', 'status'], REQUEST],
};

interface Registered {
  type?: string;
  labelNames?: string[];
  upperBounds?: number[];
}

let gateway: Gateway;

beforeAll(async () => {
  gateway = await createGateway();
});

afterAll(async () => {
  await gateway.close();
});

describe('names that others rely on', () => {
  it.each(Object.entries(CONTRACT))('%s', (name, [type, labels, buckets]) => {
    const metric = gateway.metrics.registry.getSingleMetric(name) as (Registered & { constructor: { name: string } }) | undefined;
    expect(metric?.constructor.name.toLowerCase()).toBe(type);
    expect([...(metric?.labelNames ?? [])].sort()).toEqual([...labels].sort());
    if (buckets !== undefined) expect(metric?.upperBounds).toEqual(buckets);
  });

  it('hides no metric of ours from the list', async () => {
    const ours = (await gateway.metrics.registry.getMetricsAsJSON()).map(({ name }) => name).filter((name) => name.startsWith('ardiff_'));
    const extra = ours.filter((name) => !(name in CONTRACT));
    // Of this server alone: nothing outside it need know them.
    expect(extra.sort()).toEqual(['ardiff_engine_info', 'ardiff_engine_seconds_total', 'ardiff_step_failures_total', 'ardiff_steps_total']);
  });
});
