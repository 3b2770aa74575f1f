import { describe, expect, it } from 'vitest';
import { fastest, type Candidate } from '../../src/calibration/calibrate.js';
import { assignBlocks, drawGroup, prefillChunks } from '../../src/calibration/draw.js';
import { combinationsOf, hasNoiseInEveryStep, specAs } from '../../src/calibration/combination.js';
import { toleranceCandidates } from '../../src/calibration/tolerance.js';
import { chooseTrial, worthTiming } from '../../src/calibration/tune.js';
import { wrapEngine } from '../../src/engine/engine.js';
import { modeKeyOf } from '../../src/model/accelerator.js';
import { FakeEngine } from '../support/fake-engine.js';
import { sequenceSpec } from '../support/specs.js';

describe('drawGroup', () => {
  const specs = [sequenceSpec(1), sequenceSpec(2), sequenceSpec(3)];

  it('draws whole pictures in plans that the engine accepts, and leaves nothing behind', async () => {
    const fake = new FakeEngine();
    const model = await wrapEngine(fake).load('', { kvBlocks: 64, maxStepTokens: 25 });
    for (let again = 0; again < 2; again += 1) {
      const { pictures, totalSeconds, decodeTimings } = await drawGroup(model, 25, specs, true);
      expect(pictures.map(({ image, decode }) => [image.sequence, image.tokens, decode.emittedTokens])).toEqual([[1, 6, 6], [2, 6, 6], [3, 6, 6]]);
      expect(pictures[0]!.tokens).not.toBeNull();
      expect(totalSeconds).toBeGreaterThan(decodeTimings.total);
      expect(fake.live.size).toBe(0);
    }
  });

  it('gives every row its own blocks and refuses what does not fit', () => {
    // 12 + 6 and 7 + 6 positions in blocks of 16: 2 and 1.
    const tables = assignBlocks(specs, 16, 9);
    expect(tables.flat().map((table) => [...table])).toEqual([[0, 1], [2], [3, 4], [5], [6, 7], [8]]);
    expect(() => assignBlocks(specs, 16, 8)).toThrow(/need 9 KV blocks/);
  });

  it('cuts prompts into steps', () => {
    const chunks = prefillChunks(specs.slice(0, 2), assignBlocks(specs, 16, 9), 15);
    expect(chunks.map((chunk) => chunk.map(({ sequence, row, begin, end }) => [sequence, row, begin, end]))).toEqual([
      [[1, 0, 0, 12], [1, 1, 0, 3]],
      [[1, 1, 3, 7], [2, 0, 0, 11]],
      [[2, 0, 11, 12], [2, 1, 0, 7]],
    ]);
  });
});

describe('combinations', () => {
  it('are what the files allow', () => {
    const WITH_FEW_STEPS = ['few_step:1', 'few_step:2', 'few_step:4', 'relaxed:few_step:1', 'relaxed:few_step:2', 'relaxed:few_step:4'];
    const keys = (has: Parameters<typeof combinationsOf>[0]) => combinationsOf(has).map(modeKeyOf);
    expect(keys({ draft: false, draftHead: false, fewStep: true, noiseInEveryStep: true })).toEqual(['few_step:1', 'few_step:2', 'few_step:4']);
    expect(keys({ draft: true, draftHead: true, fewStep: false, noiseInEveryStep: true })).toEqual(['exact', 'relaxed']);
    expect(keys({ draft: true, draftHead: true, fewStep: true, noiseInEveryStep: false })).toEqual(WITH_FEW_STEPS);
    expect(keys({ draft: true, draftHead: false, fewStep: true, noiseInEveryStep: true })).toEqual(WITH_FEW_STEPS);
  });

  it('draft for the model\'s sampler only where the engine can verify it: with noise in every step, the last one too', () => {
    const verified = (['A', 'B', 'C-sde', 'C-cps', 'C-ode'] as const).filter((sampler) => hasNoiseInEveryStep({ sampler, samplerLevel: 0.8 }));
    expect(verified).toEqual(['B', 'C-sde']);
    expect(hasNoiseInEveryStep({ sampler: 'C-sde', samplerLevel: 0 })).toBe(false);
  });

  it('with few steps have the caption\'s row alone', () => {
    const spec = sequenceSpec(1);
    expect(specAs(spec, 2)).toMatchObject({ fewStep: 2, promptRows: [spec.promptRows[0]] });
    expect(specAs(spec, 0).promptRows).toHaveLength(2);
  });
});

describe('choices', () => {
  const off = { mode: 'off', fewStep: 0 };
  const few = { mode: 'off', fewStep: 1 } as const;
  const both = { mode: 'relaxed', fewStep: 1 } as const;
  const mode = (combination: typeof few | typeof both, speedup: number, passed = true, tokensPerRound = 3): Candidate => ({
    combination,
    speedup,
    verdict: { passed },
    trial: combination.mode === 'off' ? null : { tokensPerRound },
  });

  it('auto is the fastest whose guard passed', () => {
    expect(fastest([mode(few, 3), mode(both, 4)])).toEqual(both);
    expect(fastest([mode(few, 3), mode(both, 4, false)])).toEqual(few);
  });

  it('auto is not a mode that never drafts, however the clock judged it', () => {
    expect(fastest([mode(few, 3), mode(both, 4, true, 1)])).toEqual(few);
  });

  it('auto is off where nothing passed, or nothing is faster than the clock can tell', () => {
    expect(fastest([mode(few, 3, false)])).toEqual(off);
    expect(fastest([mode(few, 1.01)])).toEqual(off);
    expect(fastest([])).toEqual(off);
  });

  it('only what the cost model puts close to the best is timed, and of none that drafts one', () => {
    const trial = (id: number, predicted: number) => ({ id, predicted, settings: { costs: { plain: 0.5, round: 1, draft: 0, verify: 0 } } });
    expect(worthTiming([trial(0, 2.6), trial(1, 2), trial(2, 3)]).map(({ id }) => id)).toEqual([0, 2]);
    expect(worthTiming([trial(0, 2), trial(1, 2)]).map(({ id }) => id)).toEqual([0]);
  });

  it('of settings that are equally fast the first is taken', () => {
    expect(chooseTrial([{ speedup: 1.5, id: 0 }, { speedup: 1.99, id: 1 }, { speedup: 2, id: 2 }])).toMatchObject({ id: 1 });
  });
});

describe('toleranceCandidates', () => {
  const statistics = Array.from({ length: 101 }, (_, i) => i / 100);

  it('go from strict to loose, beyond what first drafts need', () => {
    expect(toleranceCandidates(statistics, 9).map((value) => Number(value.toFixed(3)))).toEqual([0.25, 0.5, 0.7, 0.85, 0.95, 0.99, 1.485, 1.98, 2.97]);
  });

  it('cover the same range with fewer', () => {
    const three = toleranceCandidates(statistics, 3);
    expect(three).toHaveLength(3);
    expect([three[0], three[2]].map((value) => Number(value!.toFixed(2)))).toEqual([0.25, 2.97]);
  });
});
