import { describe, expect, it } from 'vitest';
import { acceptanceOf, fitCosts } from '../../src/calibration/costs.js';
import type { PictureTime } from '../../src/calibration/timing.js';

const TOKENS = 64;
const VANILLA_MS = 0.4;

/** A picture of a machine that follows the cost model exactly; numbers in vanilla tokens. */
function picture(costs: { round: number; draftFixed: number; draft: number; verify: number; plain: number }, length: number, accepted: number): PictureTime {
  const plainRounds = TOKENS % (accepted + 1);
  const rounds = (TOKENS - plainRounds) / (accepted + 1);
  const draft = rounds * (costs.draftFixed + costs.draft * length);
  const decode = draft + rounds * (costs.round + costs.verify * length) + plainRounds * costs.plain;
  const unit = VANILLA_MS / 1000;
  return { tokens: TOKENS, total: decode * unit + 0.003, decode: decode * unit, draft: draft * unit, verify: rounds * costs.verify * length * unit, rounds, drafted: rounds * length, accepted: rounds * accepted, plainRounds };
}

const plainPicture = (plain: number): PictureTime => ({
  tokens: TOKENS, total: 1, decode: (plain * TOKENS * VANILLA_MS) / 1000, draft: 0, verify: 0, rounds: 0, drafted: 0, accepted: 0, plainRounds: TOKENS,
});

describe('fitCosts', () => {
  it('finds the costs of a machine that follows the model', () => {
    const machine = { round: 0.5, draftFixed: 0.04, draft: 0.07, verify: 0.11, plain: 0.3 };
    const lengths = [1, 2, 4, 7].map((length) => [picture(machine, length, Math.min(length, 2))]);
    const { costs, worstError } = fitCosts([plainPicture(1)], [plainPicture(0.3)], lengths);
    expect(costs.plain).toBeCloseTo(0.3, 9);
    expect(costs.round).toBeCloseTo(0.54, 9);
    expect(costs.draft).toBeCloseTo(0.07, 9);
    expect(costs.verify).toBeCloseTo(0.11, 9);
    expect(worstError).toBeLessThan(1e-9);
  });
});

describe('acceptanceOf', () => {
  it('counts what was tested: the accepted ones and the first that was not', () => {
    // 2 of 3 tested; 4 of 4; nothing drafted.
    expect(acceptanceOf([{ drafted: 4, accepted: 2 }, { drafted: 4, accepted: 4 }, { drafted: 0, accepted: 0 }])).toBe(6 / 7);
    expect(acceptanceOf([])).toBe(0);
  });
});
