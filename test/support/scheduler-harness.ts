import { applyStep, type SequenceEvent } from '../../src/worker/scheduler/apply-step.js';
import { schedule } from '../../src/worker/scheduler/schedule.js';
import { createSchedulerState, hasWork, type SchedulerLimits, type SchedulerState } from '../../src/worker/scheduler/state.js';
import type { StepPlan, StepResult } from '../../src/engine/native-types.js';
import { FakeEngine } from './fake-engine.js';

/** Scheduler and strict fake engine, stepped by hand. */
export interface Harness {
  state: SchedulerState;
  engine: FakeEngine;
  /** Plans a step of up to `burst` tokens a sequence and hands it to the engine; its answer is not waited for. */
  submit(burst?: number): StepPlan;
  /** Waits for the oldest step in flight and applies its answer. */
  settle(): Promise<SequenceEvent[]>;
  /** Both; returns what was planned and what came of it. */
  step(): Promise<{ plan: StepPlan; events: SequenceEvent[] }>;
  /** Runs until nothing is live, with up to `ahead` steps of `burst` tokens in flight; pictures by sequence id. */
  drain(options?: { maxSteps?: number; ahead?: number; burst?: number; see?: (event: SequenceEvent) => void }): Promise<Map<number, Uint8Array>>;
}

export async function createHarness(limits: Partial<SchedulerLimits> = {}): Promise<Harness> {
  const all: SchedulerLimits = { numBlocks: 64, blockTokens: 4, maxStepTokens: 64, maxRunning: 16, maxVaePerStep: 4, ...limits };
  const engine = new FakeEngine({ blockTokens: all.blockTokens, pixelFactor: 2 });
  await engine.load('fake', { kvBlocks: all.numBlocks, maxStepTokens: all.maxStepTokens, accelerator: 'fake' });
  const state = createSchedulerState(all);
  const flights: { plan: StepPlan; result: Promise<StepResult> }[] = [];
  const submit = (burst?: number): StepPlan => {
    const plan = schedule(state, burst);
    flights.push({ plan, result: engine.step(1, plan) });
    return plan;
  };
  const settle = async (): Promise<SequenceEvent[]> => {
    const flight = flights.shift();
    return flight === undefined ? [] : applyStep(state, flight.plan, await flight.result);
  };
  const step = async (): Promise<{ plan: StepPlan; events: SequenceEvent[] }> => {
    const plan = submit();
    return { plan, events: await settle() };
  };
  const drain: Harness['drain'] = async ({ maxSteps = 2000, ahead = 1, burst = 1, see = () => undefined } = {}) => {
    const pictures = new Map<number, Uint8Array>();
    for (let i = 0; hasWork(state) || flights.length > 0; i += 1) {
      if (i === maxSteps) throw new Error(`not drained after ${maxSteps} steps`);
      while (flights.length < ahead && hasWork(state)) submit(burst);
      for (const event of await settle()) {
        see(event);
        if (event.kind === 'image') pictures.set(event.sequence, event.image.rgb);
      }
    }
    return pictures;
  };
  return { state, engine, submit, settle, step, drain };
}

/** Blocks in use although no sequence is live and no prompt is cached: leaks. */
export function leakedBlocks(state: SchedulerState): number {
  state.cache.clear();
  return state.pool.numUsed;
}
