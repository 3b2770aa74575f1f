import { describe, expect, it } from 'vitest';
import { combinationsOf } from '../../src/calibration/combination.js';
import type { PictureTime } from '../../src/calibration/timing.js';
import { draftJumpsOf, passCosts, predictPasses } from '../../src/calibration/tune-passes.js';
import { modeKeyOf } from '../../src/model/accelerator.js';

const picture = (changes: Partial<PictureTime>): PictureTime => ({
  tokens: 4, total: 0.1, decode: 0.08, draft: 0, verify: 0, rounds: 0, drafted: 0, accepted: 0, plainRounds: 0, ...changes,
});

describe('costs of drafted passes', () => {
  it('are those of one draft and of judging it, in vanilla passes', () => {
    // A vanilla pass takes 20 ms; three drafts took 3 ms, judging them 6.
    const costs = passCosts([picture({})], [picture({ draft: 0.003, verify: 0.006, rounds: 3, drafted: 3 })]);
    expect(costs.draft).toBeCloseTo(0.05);
    expect(costs.verify).toBeCloseTo(0.1);
    expect(costs).toMatchObject({ plain: 1, round: 1 });
  });

  it('say what drafting is worth: a refused draft costs a pass on top', () => {
    const costs = { plain: 1, round: 1, draft: 0.1, verify: 0.1 };
    expect(predictPasses(costs, 1, 4, 1)).toBeCloseTo(4 / 1.6);
    expect(predictPasses(costs, 0.5, 4, 1)).toBeCloseTo(4 / (3 * 0.7 + 1));
    expect(predictPasses(costs, 1, 4, 0.05)).toBeCloseTo(4 / 0.65);
    expect(predictPasses(costs, 0, 4, 1)).toBe(1);
  });
});

describe('modes of a model that draws in passes', () => {
  const keys = (has: { fewStep: boolean; passes: number }): (string | null)[] =>
    combinationsOf({ draft: false, draftHead: false, noiseInEveryStep: false, ...has }).map(modeKeyOf);

  it('are few steps and drafts by them, never exact', () => {
    expect(keys({ fewStep: true, passes: 4 })).toEqual(['few_step:1', 'few_step:2', 'few_step:4', 'relaxed', 'relaxed:few_step:1', 'relaxed:few_step:2', 'relaxed:few_step:4']);
  });

  it('are few steps alone where there are no references', () => {
    expect(keys({ fewStep: true, passes: 1 })).toEqual(['few_step:1', 'few_step:2', 'few_step:4']);
    expect(keys({ fewStep: false, passes: 4 })).toEqual([]);
  });

  it('draft by any number of jumps, with few steps by as many', () => {
    expect(draftJumpsOf({ mode: 'relaxed', fewStep: 0 })).toEqual([1, 2, 4]);
    expect(draftJumpsOf({ mode: 'relaxed', fewStep: 2 })).toEqual([2]);
  });
});
