import type { EngineModel } from '../engine/engine.js';
import type { ClassInfo, DecodedImage, DecodeResult, SequenceSpec, StepTimings } from '../engine/native-types.js';
import { applyStep } from '../worker/scheduler/apply-step.js';
import { MAX_STEP_TIMESTEPS } from '../worker/scheduler/course.js';
import { schedule } from '../worker/scheduler/schedule.js';
import { addSequence, createSchedulerState, hasWork } from '../worker/scheduler/state.js';
import type { DrawnGroup } from './drawn.js';

/**
 * Draws a group of pictures of classes, in the longest steps there can be. How far a step gets depends on what became of its
 * drafts, so the server's own planning does it; the times are the engine's alone.
 */
export async function drawPasses(model: EngineModel, classes: ClassInfo, maxStepTokens: number, specs: readonly SequenceSpec[]): Promise<DrawnGroup> {
  const { kvBlocks: numBlocks, blockTokens } = model.info;
  const state = createSchedulerState({ numBlocks, blockTokens, maxStepTokens, maxRunning: specs.length, maxVaePerStep: specs.length, classes });
  for (const spec of specs) addSequence(state, spec);
  const images = new Map<number, DecodedImage>();
  const decodes = new Map<number, DecodeResult[]>(specs.map(({ id }) => [id, []]));
  const steps: StepTimings[] = [];
  while (hasWork(state)) {
    const plan = schedule(state, MAX_STEP_TIMESTEPS);
    const result = await model.step(plan);
    steps.push(result.timings);
    for (const decode of result.decode) decodes.get(decode.sequence)!.push(decode);
    for (const event of applyStep(state, plan, result)) if (event.kind === 'image') images.set(event.sequence, event.image);
  }
  const timings = sumOf(steps);
  return {
    pictures: specs.map(({ id }) => ({ image: images.get(id)!, decode: joined(decodes.get(id)!), tokens: null })),
    decodeTimings: { ...timings, total: timings.total - timings.vae - timings.preview },
    totalSeconds: timings.total,
  };
}

/** What all steps of one picture told. */
function joined(parts: readonly DecodeResult[]): DecodeResult {
  return {
    ...parts.at(-1)!,
    rounds: parts.flatMap(({ rounds }) => rounds ?? []),
    accepted: Uint8Array.from(parts.flatMap(({ accepted }) => [...(accepted ?? [])])),
    trace: Float32Array.from(parts.flatMap(({ trace }) => [...(trace ?? [])])),
  };
}

function sumOf(steps: readonly StepTimings[]): StepTimings {
  const sum = (field: keyof StepTimings): number => steps.reduce((total, step) => total + step[field], 0);
  return { total: sum('total'), flowHead: sum('flowHead'), backbone: sum('backbone'), draft: sum('draft'), verify: sum('verify'), vae: sum('vae'), preview: sum('preview') };
}
