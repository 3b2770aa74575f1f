import type { SpeculationCosts } from '../engine/native-types.js';
import { fitLine } from './least-squares.js';
import { meanOf, type PictureTime } from './timing.js';

export interface CostFit {
  costs: SpeculationCosts;
  /** Largest relative distance of a measured round from the fitted line. */
  worstError: number;
}

/**
 * Times at several fixed γ to the four numbers of the cost model, in units of one vanilla token. Draft and the rest of a round are lines over γ of
 * their own: one is the draft's business, the other the target's.
 *
 *   draft time of a round = d0 + d1 γ,   rest = r0 + r1 γ   →   round = d0 + r0, draft = d1, verify = r1
 *
 * What a round's completion costs depends on what was accepted; it is in r0 at the acceptance of these pictures.
 */
export function fitCosts(vanilla: readonly PictureTime[], plain: readonly PictureTime[], atLengths: readonly (readonly PictureTime[])[]): CostFit {
  const unit = secondsPerToken(vanilla);
  const plainSeconds = secondsPerToken(plain);
  const points = atLengths.map((times) => {
    const rounds = meanOf(times, 'rounds');
    const draft = meanOf(times, 'draft') / rounds;
    const speculating = meanOf(times, 'decode') - meanOf(times, 'plainRounds') * plainSeconds;
    return { length: meanOf(times, 'drafted') / rounds, draft: draft / unit, rest: speculating / rounds / unit - draft / unit };
  });
  const lengths = points.map(({ length }) => length);
  const draft = fitLine(lengths, points.map((point) => point.draft));
  const rest = fitLine(lengths, points.map((point) => point.rest));
  const costs = { plain: plainSeconds / unit, round: draft.intercept + rest.intercept, draft: draft.slope, verify: rest.slope };
  const worstError = Math.max(
    ...points.map((point) => {
      const measured = point.draft + point.rest;
      return Math.abs(costs.round + point.length * (costs.draft + costs.verify) - measured) / measured;
    }),
  );
  return { costs, worstError };
}

export function secondsPerToken(times: readonly PictureTime[]): number {
  return meanOf(times, 'decode') / meanOf(times, 'tokens');
}

/** Chance that a draft is accepted once those before it were: a round tests what was accepted, and the first that was not. */
export function acceptanceOf(rounds: readonly { drafted: number; accepted: number }[]): number {
  const accepted = rounds.reduce((sum, round) => sum + round.accepted, 0);
  const tested = rounds.reduce((sum, round) => sum + Math.min(round.accepted + 1, round.drafted), 0);
  return tested === 0 ? 0 : accepted / tested;
}
