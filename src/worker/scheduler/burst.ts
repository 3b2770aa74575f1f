import type { StepPlan, StepResult } from '../../engine/native-types.js';

/** What a step may take before somebody who came in the meantime should be looked at. */
const STEP_SECONDS = 0.004;

/** At 16 what a step costs on this side is a percent of the shortest there are (few-step heads of small models); more would only delay. */
const MAX_ROUNDS = 16;

/**
 * How many rounds a step runs of each sequence: a token each, or an attempt at several. A step costs this side and the crossing tens of microseconds: nothing
 * beside the step of a large model or of a full batch, a tenth of that of a small model drawing one picture. So short
 * steps are made longer. Only the moment of a step depends on it, never a picture.
 */
export class BurstPolicy {
  private secondsPerRound: number | null = null;

  get rounds(): number {
    if (this.secondsPerRound === null) return 1;
    return Math.min(MAX_ROUNDS, Math.max(1, Math.floor(STEP_SECONDS / this.secondsPerRound)));
  }

  note(plan: StepPlan, { decode, timings }: StepResult): void {
    if (plan.decode.length === 0 || plan.prefill.length > 0) return;
    // A step that was cut short says nothing of how long a whole one takes.
    if (decode.some(({ cancelled }) => cancelled)) return;
    // A speculating sequence may be complete before its rounds are over; one that draws passes has one only where a reference begins.
    const rounds = Math.max(1, ...plan.decode.map((entry, i) => decode[i]?.rounds?.length || entry.rounds));
    const measured = (timings.flowHead + timings.backbone + timings.draft + timings.verify) / rounds;
    // Half old, half new: one slow step (the machine looked elsewhere) should not count for long.
    this.secondsPerRound = this.secondsPerRound === null ? measured : (this.secondsPerRound + measured) / 2;
  }
}
