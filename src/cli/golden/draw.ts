import type { EngineModel } from '../../engine/engine.js';
import type { SequenceSpec } from '../../engine/native-types.js';
import { applyStep } from '../../worker/scheduler/apply-step.js';
import { schedule } from '../../worker/scheduler/schedule.js';
import { addSequence, createSchedulerState, removeSequence } from '../../worker/scheduler/state.js';

/**
 * Draws one sequence with the real scheduler and `step(plan)`, and reads its tokens (L, D) before the engine
 * forgets it.
 */
export async function drawTokens(model: EngineModel, spec: SequenceSpec, maxStepTokens: number): Promise<Float32Array> {
  const { kvBlocks, blockTokens } = model.info;
  const state = createSchedulerState({ numBlocks: kvBlocks, blockTokens, maxStepTokens, maxRunning: 1, maxVaePerStep: 1 });
  const sequence = addSequence(state, spec);
  while (sequence.emitted < sequence.totalTokens) {
    const plan = schedule(state);
    applyStep(state, plan, await model.step(plan));
  }
  const { tokens } = await model.probe({ kind: 'tokens', tensors: {}, params: { sequence: spec.id } });
  removeSequence(state, sequence);
  await model.step(schedule(state));
  if (tokens === undefined) throw new Error('the engine returned no tokens');
  return tokens.data;
}
