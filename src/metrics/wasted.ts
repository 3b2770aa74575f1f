import { Counter, Histogram, type Registry } from 'prom-client';
import type { StepPlan, StepResult } from '../engine/native-types.js';
import type { StopReason } from '../jobs/job-worker.js';
import type { SchedulerState } from '../worker/scheduler/state.js';
import { STAGE_BUCKETS } from './buckets.js';
import { EngineTime } from './engine-time.js';

/** Why work was thrown away: why the job was stopped, or `error`; recomputing counts as `preemption`. */
export type WasteReason = StopReason | 'error';

const WASTE_REASONS = ['disconnect', 'api', 'timeout', 'shutdown', 'moved', 'error', 'preemption'] as const;

/** Engine time that nobody got a picture for, and how fast a cancelled picture's slot is free again. */
export interface WasteMetrics {
  /** The job got what it asked for. */
  delivered(sequences: readonly number[]): void;
  /** The job comes to nothing. Call it before its sequences are cancelled. */
  abandoned(sequences: readonly number[], reason: WasteReason): void;
  step(plan: StepPlan, result: StepResult): void;
  stepFailed(): void;
}

export function createWasteMetrics(registry: Registry, model: string, state: SchedulerState): WasteMetrics {
  const registers = [registry];
  const wasted = new Counter({
    name: 'ardiff_wasted_gpu_seconds_total',
    help: 'Engine time (on a CPU: wall time inside steps, divided among the sequences by what they computed) of work thrown away.',
    labelNames: ['model', 'reason'],
    registers,
  });
  for (const reason of WASTE_REASONS) wasted.inc({ model, reason }, 0);
  const latency = new Histogram({
    name: 'ardiff_cancel_latency_seconds',
    help: 'Cancel of a picture in the batch to the step in which another can have its slot.',
    labelNames: ['model'],
    buckets: STAGE_BUCKETS,
    registers,
  });
  const isLive = (id: number): boolean => state.byId.get(id)?.admitted === true;
  const time = new EngineTime(isLive, (reason, seconds) => {
    wasted.inc({ model, reason }, seconds);
  });
  /** Cancelled sequences that still hold a slot, and since when. */
  const freeing = new Map<number, number>();
  return {
    delivered: (sequences) => {
      time.settle(sequences);
    },
    abandoned: (sequences, reason) => {
      time.abandon(sequences, reason);
      if (reason === 'error') return;
      for (const id of sequences) if (isLive(id)) freeing.set(id, performance.now());
    },
    step: (plan, result) => {
      time.note(plan, result);
      if (freeing.size === 0) return;
      // Slots are given away at the beginning of a step; what follows in it is the next picture's.
      const begin = performance.now() - result.timings.total * 1000;
      for (const id of plan.release) {
        const since = freeing.get(id);
        if (since !== undefined) latency.observe({ model }, Math.max(0, begin - since) / 1000);
        freeing.delete(id);
      }
    },
    stepFailed: () => {
      time.stepFailed();
      freeing.clear();
    },
  };
}
