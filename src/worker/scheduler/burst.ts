import type { StepPlan, StepResult } from '../../engine/native-types.js';

/** What a step may take before somebody who came in the meantime should be looked at. */
const STEP_SECONDS = 0.004;

/** At 8 what a step costs on this side is below a percent of it; more would only delay. */
const MAX_TOKENS = 8;

/**
 * How many tokens a step draws of each sequence. A step costs this side and the crossing tens of microseconds: nothing
 * beside the step of a large model or of a full batch, a tenth of that of a small model drawing one picture. So short
 * steps are made longer. Only the moment of a step depends on it, never a picture.
 */
export class BurstPolicy {
  private secondsPerToken: number | null = null;

  get tokens(): number {
    if (this.secondsPerToken === null) return 1;
    return Math.min(MAX_TOKENS, Math.max(1, Math.floor(STEP_SECONDS / this.secondsPerToken)));
  }

  note(plan: StepPlan, { decode, timings }: StepResult): void {
    if (plan.decode.length === 0 || plan.prefill.length > 0) return;
    // A step that was cut short says nothing of how long a whole one takes.
    if (decode.some(({ cancelled }) => cancelled)) return;
    const rounds = Math.max(...plan.decode.map((entry) => entry.rounds));
    const measured = (timings.flowHead + timings.backbone) / rounds;
    // Half old, half new: one slow step (the machine looked elsewhere) should not count for long.
    this.secondsPerToken = this.secondsPerToken === null ? measured : (this.secondsPerToken + measured) / 2;
  }
}
