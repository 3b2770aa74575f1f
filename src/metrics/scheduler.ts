import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { StepPlan, StepResult } from '../engine/native-types.js';
import type { SchedulerState } from '../worker/scheduler/state.js';
import { BATCH_BUCKETS, QUEUE_BUCKETS, STAGE_BUCKETS, TOKEN_BUCKETS } from './buckets.js';

export interface SchedulerMetrics {
  step(plan: StepPlan, result: StepResult): void;
  stepFailed(): void;
  firstToken(seconds: number): void;
  imageTokens(secondsEach: number, count: number): void;
  encode(seconds: number): void;
}

/** Steps of one model and the KV blocks behind them. */
export function createSchedulerMetrics(registry: Registry, model: string, state: SchedulerState): SchedulerMetrics {
  watchBlocks(registry, state);
  const registers = [registry];
  const labelNames = ['model'] as const;
  const counter = (name: string, help: string): Counter<'model'> => new Counter({ name, help, labelNames, registers });
  const steps = counter('ardiff_steps_total', 'Engine steps.');
  const engineSeconds = counter('ardiff_engine_seconds_total', 'Wall time inside engine steps.');
  const failures = counter('ardiff_step_failures_total', 'Engine steps that failed.');
  const tokens = counter('ardiff_image_tokens_total', 'Image tokens drawn.');
  const evaluations = counter('ardiff_diffusion_steps_total', 'Flow-head evaluations: timesteps x guidance rows.');
  const firstToken = new Histogram({
    name: 'ardiff_time_to_first_token_seconds',
    help: 'Submission of a picture to its first image token.',
    labelNames,
    buckets: QUEUE_BUCKETS,
    registers,
  });
  const perToken = new Histogram({
    name: 'ardiff_time_per_image_token_seconds',
    help: 'Between two image tokens of a picture.',
    labelNames,
    buckets: TOKEN_BUCKETS,
    registers,
  });
  const batch = new Histogram({
    name: 'ardiff_batch_size',
    help: 'Sequences sharing a step, by stage.',
    labelNames: ['model', 'stage'],
    buckets: BATCH_BUCKETS,
    registers,
  });
  const stage = new Histogram({
    name: 'ardiff_stage_duration_seconds',
    help: 'Wall time of a stage within one step, over all tokens that it draws; encode: of one picture. A mixed backbone pass counts as ar.',
    labelNames: ['model', 'stage'],
    buckets: STAGE_BUCKETS,
    registers,
  });
  return {
    step: (plan, result) => {
      steps.inc({ model });
      engineSeconds.inc({ model }, result.timings.total);
      // A cancelled sequence drew an unknown part of its tokens; nobody gets them.
      tokens.inc({ model }, plan.decode.reduce((sum, entry, i) => sum + (result.decode[i]?.cancelled === true ? 0 : entry.tokens), 0));
      evaluations.inc({ model }, result.flowHeadEvaluations);
      const sizes = { prefill: new Set(plan.prefill.map((entry) => entry.sequence)).size, ar: plan.decode.length, vae: plan.vae.length };
      for (const [name, size] of Object.entries(sizes)) if (size > 0) batch.observe({ model, stage: name }, size);
      const { flowHead, backbone, vae } = result.timings;
      if (sizes.ar > 0) stage.observe({ model, stage: 'diffusion' }, flowHead);
      if (sizes.ar + sizes.prefill > 0) stage.observe({ model, stage: sizes.ar > 0 ? 'ar' : 'prefill' }, backbone);
      if (sizes.vae > 0) stage.observe({ model, stage: 'vae' }, vae);
    },
    stepFailed: () => {
      failures.inc({ model });
    },
    firstToken: (seconds) => {
      firstToken.observe({ model }, seconds);
    },
    imageTokens: (secondsEach, count) => {
      for (let i = 0; i < count; i += 1) perToken.observe({ model }, secondsEach);
    },
    encode: (seconds) => {
      stage.observe({ model, stage: 'encode' }, seconds);
    },
  };
}

/** Values the scheduler keeps anyway, read at scrape. */
function watchBlocks(registry: Registry, state: SchedulerState): void {
  const registers = [registry];
  new Gauge({
    name: 'ardiff_kv_cache_usage_ratio',
    help: 'Share of KV blocks in use, cached prompts included.',
    registers,
    collect() {
      this.set(state.pool.numUsed / state.pool.numBlocks);
    },
  });
  new Gauge({
    name: 'ardiff_kv_cache_blocks',
    help: 'KV blocks by state; reclaimable ones hold prompts nobody uses right now.',
    labelNames: ['state'],
    registers,
    collect() {
      const reclaimable = state.cache.reclaimableBlocks();
      this.set({ state: 'free' }, state.pool.numFree);
      this.set({ state: 'reclaimable' }, reclaimable);
      this.set({ state: 'used' }, state.pool.numUsed - reclaimable);
    },
  });
  const mirror = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  mirror('ardiff_preemptions_total', 'Sequences that gave up their blocks and recompute.', () => state.numPreemptions);
  mirror('ardiff_prefix_cache_queries_total', 'Prompt tokens looked up in the prompt cache.', () => state.cache.stats.queriedTokens);
  mirror('ardiff_prefix_cache_hits_total', 'Of those, tokens that were there.', () => state.cache.stats.hitTokens);
}
