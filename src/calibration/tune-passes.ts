import type { SpeculationCosts } from '../engine/native-types.js';
import { FEW_STEPS, type Acceleration } from '../model/accelerator.js';
import { acceptanceOf, secondsPerToken } from './costs.js';
import { fewStepWay, UNMEASURED, wayOf, type SpeculationSettings } from './settings.js';
import { drawAll, type Studio, type Way } from './studio.js';
import { meanOf, timeWays, type PictureTime } from './timing.js';
import type { Trial, Tuned, TuneOptions } from './tune.js';

export type DraftJumps = NonNullable<SpeculationSettings['draftJumps']>;

/** How many jumps a reference may be drafted by. With few steps as many as the picture has: then a picture whose drafts are all kept is that of the few steps. */
export function draftJumpsOf({ fewStep }: Acceleration): readonly DraftJumps[] {
  return fewStep === 0 ? FEW_STEPS : [fewStep];
}

/**
 * Costs and acceptance of drafted references at one tolerance, timed. A draft that is refused costs a whole pass on top, one that
 * is kept saves it: to the rule of draft lengths that is a round as dear as a plain pass (docs/speculation.md, Passes).
 */
export async function tunePasses(studio: Studio, combination: Acceleration, draftJumps: DraftJumps, tolerance: number, options: TuneOptions): Promise<Tuned> {
  const drafting: SpeculationSettings = { drafting: 'sequential', maxDraftTokens: 1, tolerance, draftJumps, ...UNMEASURED };
  const always = wayOf(combination, drafting, { adaptive: false });
  const { vanilla, plain, drafts } = await timeWays(studio, { vanilla: fewStepWay(0), plain: fewStepWay(combination.fewStep), drafts: always }, options.timingPrompts, options.repetitions);
  const costs = passCosts(vanilla, drafts);
  const acceptance = acceptanceOf(await tracedRounds(studio, always, options));
  const settings = { ...drafting, costs, acceptance };
  const timed = await timeWays(studio, { vanilla: fewStepWay(0), trial: wayOf(combination, settings) }, options.timingPrompts, 2 * options.repetitions);
  const rounds = meanOf(timed.trial, 'rounds');
  const best: Trial = {
    settings,
    speedup: meanOf(timed.vanilla, 'total') / meanOf(timed.trial, 'total'),
    tokenSpeedup: meanOf(timed.vanilla, 'decode') / meanOf(timed.trial, 'decode'),
    predicted: predictPasses(costs, acceptance, meanOf(vanilla, 'tokens'), secondsPerToken(plain) / secondsPerToken(vanilla)),
    tokensPerRound: rounds === 0 ? 1 : 1 + meanOf(timed.trial, 'accepted') / rounds,
  };
  return { best, trials: [best], gate: null, costError: null };
}

/** In units of one vanilla pass. */
export function passCosts(vanilla: readonly PictureTime[], drafts: readonly PictureTime[]): SpeculationCosts {
  const unit = secondsPerToken(vanilla);
  const drafted = meanOf(drafts, 'drafted');
  return { plain: 1, round: 1, draft: meanOf(drafts, 'draft') / drafted / unit, verify: meanOf(drafts, 'verify') / drafted / unit };
}

/** Speedup of the passes of a picture: references drafted where that pays, then the picture's own pass at `last` of a vanilla pass. */
export function predictPasses({ draft, verify }: SpeculationCosts, acceptance: number, passes: number, last: number): number {
  return passes / ((passes - 1) * Math.min(1, draft + verify + 1 - acceptance) + last);
}

async function tracedRounds(studio: Studio, way: Way, { tracePrompts }: TuneOptions) {
  const rounds: { drafted: number; accepted: number }[] = [];
  await drawAll(studio, tracePrompts, way, ({ decode }) => {
    rounds.push(...(decode.rounds ?? []));
  });
  return rounds;
}
