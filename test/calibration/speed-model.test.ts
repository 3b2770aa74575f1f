import { describe, expect, it } from 'vitest';
import { expectedTokens, predictBest, predictDrawn, stepCost } from '../../src/calibration/speed-model.js';

/** Completion 0.55 and verification 0.45 of a vanilla token are the round; a draft costs 0.12. */
const COSTS = { plain: 1, round: 1, draft: 0.12, verify: 0 };

describe('speed model', () => {
  it('is the closed form of the geometric series', () => {
    for (const acceptance of [0, 0.5, 0.9]) {
      for (const drafts of [0, 1, 5]) expect(expectedTokens(acceptance, drafts)).toBeCloseTo((1 - acceptance ** (drafts + 1)) / (1 - acceptance), 12);
    }
    expect(expectedTokens(1, 6)).toBe(7);
  });

  it('charges a plain step for no drafts and a round for some', () => {
    const costs = { plain: 0.875, round: 0.5, draft: 0.125, verify: 0.25 };
    expect([0, 1, 4].map((drafts) => stepCost(costs, drafts))).toEqual([0.875, 0.875, 2]);
  });

  it.each([
    [0.5, 2, 1.41],
    [0.7, 4, 1.87],
    [0.85, 7, 2.64],
    [0.95, 14, 4.01],
  ])('at acceptance %f drafts %i and gains %f', (acceptance, drafts, rate) => {
    const best = predictBest(COSTS, acceptance, 20);
    expect(best.drafts).toBe(drafts);
    expect(best.rate).toBeCloseTo(rate, 2);
  });

  it('does not draft where it does not pay', () => {
    expect(predictBest({ plain: 0.25, round: 0.4, draft: 0.1, verify: 0.1 }, 0.5, 8)).toEqual({ drafts: 0, rate: 4 });
  });

  it('of rounds that were drawn: their tokens over their costs', () => {
    // 3 + 1 tokens for 1.24, one plain token for 1.
    expect(predictDrawn(COSTS, [{ drafted: 2, accepted: 2 }, { drafted: 0, accepted: 0 }])).toBeCloseTo(4 / 2.24, 12);
  });
});
