import { applyStep, type SequenceEvent } from '../../src/worker/scheduler/apply-step.js';
import { schedule } from '../../src/worker/scheduler/schedule.js';
import { createSchedulerState, hasWork, type SchedulerLimits, type SchedulerState } from '../../src/worker/scheduler/state.js';
import type { StepPlan } from '../../src/engine/native-types.js';
import { FakeEngine } from './fake-engine.js';

/** Scheduler and strict fake engine, stepped by hand. */
export interface Harness {
  state: SchedulerState;
  engine: FakeEngine;
  /** One step; returns what was planned and what came of it. */
  step(): Promise<{ plan: StepPlan; events: SequenceEvent[] }>;
  /** Steps until nothing is live; pictures by sequence id. */
  drain(maxSteps?: number): Promise<Map<number, Uint8Array>>;
}

export async function createHarness(limits: Partial<SchedulerLimits> = {}): Promise<Harness> {
  const all: SchedulerLimits = { numBlocks: 64, blockTokens: 4, maxStepTokens: 64, maxRunning: 16, maxVaePerStep: 4, ...limits };
  const engine = new FakeEngine({ blockTokens: all.blockTokens, pixelFactor: 2 });
  await engine.load('fake', { kvBlocks: all.numBlocks, maxStepTokens: all.maxStepTokens });
  const state = createSchedulerState(all);
  const step = async (): Promise<{ plan: StepPlan; events: SequenceEvent[] }> => {
    const plan = schedule(state);
    const result = await engine.step(1, plan);
    return { plan, events: applyStep(state, plan, result) };
  };
  const drain = async (maxSteps = 2000): Promise<Map<number, Uint8Array>> => {
    const pictures = new Map<number, Uint8Array>();
    for (let i = 0; hasWork(state); i += 1) {
      if (i === maxSteps) throw new Error(`not drained after ${maxSteps} steps`);
      const { events } = await step();
      for (const event of events) if (event.kind === 'image') pictures.set(event.sequence, event.image.rgb);
    }
    return pictures;
  };
  return { state, engine, step, drain };
}

/** Blocks in use although no sequence is live and no prompt is cached: leaks. */
export function leakedBlocks(state: SchedulerState): number {
  state.cache.clear();
  return state.pool.numUsed;
}
