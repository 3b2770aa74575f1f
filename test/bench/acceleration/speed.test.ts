import { describe, expect, it } from 'vitest';
import { sharesOf, speedup, tokensPerRound } from '../../../bench/acceleration/speed.js';

describe('speed', () => {
  it('shares add up to the engine\'s time', () => {
    const step = { total: 10, flowHead: 2, backbone: 3, draft: 1, verify: 1.5, vae: 0.5, preview: 0 };
    const share = sharesOf([step, step]);
    expect(share).toEqual({ backbone: 0.3, head: 0.2, draft: 0.1, verify: 0.15, vae: 0.05, other: 0.2 });
  });

  it('is a ratio within each round', () => {
    expect(speedup([4, 8, 6], [2, 2, 2])).toEqual({ median: 3, min: 2, max: 4, rounds: 3 });
  });

  it('counts the tokens of rounds that drafted', () => {
    const round = { gateStopped: false, draftEntropy: NaN, targetEntropy: NaN };
    expect(tokensPerRound([{ ...round, drafted: 4, accepted: 4 }, { ...round, drafted: 4, accepted: 1 }, { ...round, drafted: 0, accepted: 0 }])).toBe(3.5);
    expect(tokensPerRound([{ ...round, drafted: 0, accepted: 0 }])).toBe(1);
  });
});
