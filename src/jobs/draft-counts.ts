import type { RoundRecord } from '../engine/native-types.js';
import type { DraftCounts } from './job.js';

export const NO_DRAFTS: DraftCounts = { rounds: 0, draftTokens: 0, acceptedTokens: 0, gateStops: 0 };

/** What the rounds of a step came to. */
export function countRounds(rounds: readonly RoundRecord[]): DraftCounts {
  return rounds.reduce(
    (sum, { drafted, accepted, gateStopped }) => addCounts(sum, { rounds: 1, draftTokens: drafted, acceptedTokens: accepted, gateStops: gateStopped ? 1 : 0 }),
    NO_DRAFTS,
  );
}

export function addCounts(a: DraftCounts, b: DraftCounts): DraftCounts {
  return {
    rounds: a.rounds + b.rounds,
    draftTokens: a.draftTokens + b.draftTokens,
    acceptedTokens: a.acceptedTokens + b.acceptedTokens,
    gateStops: a.gateStops + b.gateStops,
  };
}
