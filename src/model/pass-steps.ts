import type { FewStep } from '../engine/native-types.js';

/** Timesteps of the passes of a picture; the same numbers as native/engine/pass_steps.h. */
export interface PassSteps {
  /** Of every pass but the last. */
  each: number;
  last: number;
}

/**
 * All alike, but where references of a picture of few steps are drafted: those that are refused are drawn by the model's own sampler,
 * at all its timesteps.
 */
export function passStepsOf(timesteps: number, fewStep: FewStep, drafts: boolean): PassSteps {
  const last = fewStep === 0 ? timesteps : fewStep;
  return { each: drafts ? timesteps : last, last };
}
