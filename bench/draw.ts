import type { EngineModel } from '../src/engine/engine.js';
import type { DecodedImage, RoundRecord, SequenceSpec, StepTimings } from '../src/engine/native-types.js';
import { applyStep } from '../src/worker/scheduler/apply-step.js';
import { BurstPolicy } from '../src/worker/scheduler/burst.js';
import { schedule } from '../src/worker/scheduler/schedule.js';
import { addSequence, createSchedulerState, hasWork } from '../src/worker/scheduler/state.js';

export interface Drawn {
  /** In the order of the specs. */
  images: DecodedImage[];
  wallSeconds: number;
  /** Of every engine step, in order. */
  steps: StepTimings[];
  /** Of sequences that speculate, all of them. */
  rounds: RoundRecord[];
}

export const MAX_STEP_TOKENS = 512;

/** Draws all specs at once through the server's own scheduler, without a server: the same plans as in production. */
export async function draw(model: EngineModel, specs: readonly SequenceSpec[], maxStepTokens = MAX_STEP_TOKENS): Promise<Drawn> {
  const { kvBlocks, blockTokens, classes } = model.info;
  const state = createSchedulerState({
    numBlocks: kvBlocks,
    blockTokens,
    maxStepTokens,
    maxRunning: specs.length,
    maxVaePerStep: specs.length,
    ...(classes === undefined ? {} : { classes }),
  });
  // A timestep of a pass is short beside a token of a batch: as the server does, several share a step.
  const burst = classes === undefined ? null : new BurstPolicy();
  const images = new Map<number, DecodedImage>();
  const steps: StepTimings[] = [];
  const rounds: RoundRecord[] = [];
  const begin = performance.now();
  for (const spec of specs) addSequence(state, spec);
  while (hasWork(state)) {
    const plan = schedule(state, burst?.rounds);
    const result = await model.step(plan);
    steps.push(result.timings);
    burst?.note(plan, result);
    for (const decoded of result.decode) rounds.push(...(decoded.rounds ?? []));
    for (const event of applyStep(state, plan, result)) if (event.kind === 'image') images.set(event.sequence, event.image);
  }
  const wallSeconds = (performance.now() - begin) / 1000;
  return { images: specs.map((spec) => images.get(spec.id)!), wallSeconds, steps, rounds };
}
