import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { StepPlan, StepResult } from '../engine/native-types.js';
import type { SchedulerState } from '../worker/scheduler/state.js';
import { BATCH_BUCKETS, QUEUE_BUCKETS, STAGE_BUCKETS, TOKEN_BUCKETS } from './buckets.js';
import { watchKvCache } from './kv-cache.js';
import { createSpeculationMetrics, tokensDrawn } from './speculation.js';
import { createWasteMetrics, type WasteReason } from './wasted.js';

export interface SchedulerMetrics {
  step(plan: StepPlan, result: StepResult): void;
  stepFailed(): void;
  firstToken(seconds: number): void;
  imageTokens(secondsEach: number, count: number): void;
  encode(seconds: number): void;
  /** A job has all its pictures. */
  delivered(sequences: readonly number[]): void;
  /** A job comes to nothing. Call it before its sequences are cancelled. */
  abandoned(sequences: readonly number[], reason: WasteReason): void;
  /** Time a preview took outside the engine. */
  preview(seconds: number): void;
}

/** Steps of one model on one worker and the KV blocks behind them. */
export function createSchedulerMetrics(registry: Registry, model: string, worker: string, state: SchedulerState): SchedulerMetrics {
  watchKvCache(registry, model, worker, state);
  watchSlots(registry, model, state);
  const waste = createWasteMetrics(registry, model, state);
  const speculation = createSpeculationMetrics(registry, model, state.limits.classes !== undefined);
  const registers = [registry];
  const labelNames = ['model'] as const;
  const counter = (name: string, help: string): Counter<'model'> => new Counter({ name, help, labelNames, registers });
  const steps = counter('ardiff_steps_total', 'Engine steps.');
  const engineSeconds = counter('ardiff_engine_seconds_total', 'Wall time inside engine steps.');
  const failures = counter('ardiff_step_failures_total', 'Engine steps that failed.');
  failures.inc({ model }, 0);
  const tokens = counter('ardiff_image_tokens_total', 'Image tokens drawn; of a model that draws in passes, timesteps.');
  const previews = counter(
    'ardiff_preview_seconds_total',
    'Time for previews: decodes of unfinished pictures and reads of tokens in the engine, painting and encoding outside of it.',
  );
  const evaluations = counter('ardiff_diffusion_steps_total', 'Evaluations of flow head or diffusion decoder: timesteps x guidance rows.');
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
      waste.step(plan, result);
      speculation.step(result);
      steps.inc({ model });
      engineSeconds.inc({ model }, result.timings.total);
      tokens.inc({ model }, tokensDrawn(plan, result));
      evaluations.inc({ model }, result.flowHeadEvaluations);
      const sizes = { prefill: new Set(plan.prefill.map((entry) => entry.sequence)).size, ar: plan.decode.length, vae: plan.vae.length };
      for (const [name, size] of Object.entries(sizes)) if (size > 0) batch.observe({ model, stage: name }, size);
      const { flowHead, backbone, draft, verify, vae, preview } = result.timings;
      previews.inc({ model }, preview);
      if (sizes.ar > 0) stage.observe({ model, stage: 'diffusion' }, flowHead);
      if (sizes.ar + sizes.prefill > 0) stage.observe({ model, stage: sizes.ar > 0 ? 'ar' : 'prefill' }, backbone);
      for (const [name, time] of Object.entries({ draft, verify, vae })) if (time > 0) stage.observe({ model, stage: name }, time);
    },
    stepFailed: () => {
      waste.stepFailed();
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
    delivered: waste.delivered,
    abandoned: waste.abandoned,
    preview: (seconds) => {
      previews.inc({ model }, seconds);
    },
  };
}

function watchSlots(registry: Registry, model: string, state: SchedulerState): void {
  new Gauge({
    name: 'ardiff_batch_slots',
    help: 'Pictures that can be in the batch at once, and those that are.',
    labelNames: ['model', 'state'],
    registers: [registry],
    collect() {
      this.set({ model, state: 'used' }, state.running.length);
      this.set({ model, state: 'total' }, state.limits.maxRunning);
    },
  });
}
