import type { SpeculationCosts } from '../engine/native-types.js';

/** As native/speculation/draft_length.h: a round of γ > 0 drafts, a plain step for γ = 0; in vanilla tokens. */
export function stepCost({ plain, round, draft, verify }: SpeculationCosts, drafts: number): number {
  return drafts === 0 ? plain : round + drafts * (draft + verify);
}

/** 1 + α + … + α^γ. */
export function expectedTokens(acceptance: number, drafts: number): number {
  let [tokens, power] = [1, 1];
  for (let j = 0; j < drafts; j += 1) tokens += power *= acceptance;
  return tokens;
}

export interface Prediction {
  drafts: number;
  /** Tokens per vanilla token's time: the speedup of the tokens' part of a picture. */
  rate: number;
}

/** The best γ of the cost model at a constant acceptance, γ = 0 included. */
export function predictBest(costs: SpeculationCosts, acceptance: number, maxDrafts: number): Prediction {
  let best: Prediction = { drafts: 0, rate: 1 / stepCost(costs, 0) };
  for (let drafts = 1; drafts <= maxDrafts; drafts += 1) {
    const rate = expectedTokens(acceptance, drafts) / stepCost(costs, drafts);
    if (rate > best.rate) best = { drafts, rate };
  }
  return best;
}

/** What the costs say of rounds that were drawn: the same figure, for the γ that was chosen and what became of it. */
export function predictDrawn(costs: SpeculationCosts, rounds: readonly { drafted: number; accepted: number }[]): number {
  const tokens = rounds.reduce((sum, { accepted }) => sum + accepted + 1, 0);
  return tokens / rounds.reduce((sum, { drafted }) => sum + stepCost(costs, drafted), 0);
}
