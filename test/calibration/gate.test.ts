import { describe, expect, it } from 'vitest';
import { breakEven, fitGate, gateFeatures } from '../../src/calibration/gate.js';
import { judgedDrafts, type JudgedDraft } from '../../src/calibration/trace.js';
import { TRACE_COLUMNS } from '../../src/engine/native-types.js';
import { randomIntegers } from '../support/specs.js';

const TOKENS = 64;

/** Pictures whose drafts are accepted by the entropy of layer 1 with the given sign; 0: by nothing. */
function pictures(sign: number): JudgedDraft[][] {
  const below = randomIntegers(11);
  const uniform = (): number => below(10_000) / 10_000;
  return Array.from({ length: 60 }, () =>
    Array.from({ length: 40 }, (_, token) => {
      const entropies = [uniform(), uniform()];
      const accepted = uniform() < 1 / (1 + Math.exp(-sign * 8 * (entropies[1]! - 0.5)));
      return { token, draft: 1 + (token % 3), accepted, statistic: uniform(), targetEntropy: 0.5, entropies, lastStatistic: uniform() };
    }),
  );
}

describe('fitGate', () => {
  it.each([1, -1])('finds the layer that tells, and its sign %i', (sign) => {
    const { report, logistic } = fitGate(pictures(sign), TOKENS);
    expect(report).toMatchObject({ layer: 1, usable: true, drafts: 2400 });
    expect(report.statistic.median).toBeCloseTo(0.5, 1);
    expect(report.statistic.p90).toBeCloseTo(0.9, 1);
    expect(report.layers[0]!.auc).toBeLessThan(0.55);
    expect(report.layers[1]!.auc).toBeGreaterThan(0.8);
    expect(Math.sign(report.layers[1]!.entropy_weight)).toBe(sign);
    expect(report.auc_with_entropy).toBeGreaterThan(report.auc_without_entropy + 0.2);
    expect(logistic).toMatchObject({ layer: 1 });
    expect(logistic!.weights).toHaveLength(6);
  });

  it('drops entropies that say nothing', () => {
    const { report, logistic } = fitGate(pictures(0), TOKENS);
    expect(report.usable).toBe(false);
    expect(logistic).toBeNull();
  });

  it('keeps statistics of the paper\'s rule by the penultimate layer', () => {
    const { paper } = fitGate(pictures(1), TOKENS);
    expect(paper).toMatchObject({ kind: 'paper', layer: 0 });
    if (paper.kind !== 'paper') return;
    expect(paper.mean).toBeCloseTo(0.5, 1);
    expect(paper.std).toBeCloseTo(Math.sqrt(1 / 12), 1);
  });

  it('says nothing of drafts that are all accepted', () => {
    const all = pictures(0).map((picture) => picture.map((draft) => ({ ...draft, accepted: true })));
    expect(fitGate(all, TOKENS).report).toMatchObject({ acceptance: 1, usable: false, auc_with_entropy: 0.5 });
  });
});

describe('gateFeatures', () => {
  const draft: JudgedDraft = { token: 16, draft: 2, accepted: true, statistic: 9, targetEntropy: 0.25, entropies: [0.75, 0.1], lastStatistic: Math.E };

  it('are the engine\'s, in its order', () => {
    expect(gateFeatures(draft, 0, TOKENS)).toEqual([0.75, 0.5, 2, 0.25, 1]);
  });

  it('have no difference to a target that was not seen, and a floor under the logarithm', () => {
    expect(gateFeatures({ ...draft, targetEntropy: NaN, lastStatistic: 0 }, 1, TOKENS)).toEqual([0.1, 0, 2, 0.25, Math.log(1e-6)]);
  });
});

describe('judgedDrafts', () => {
  it('leaves out what was not reached, and knows the statistic of the round before', () => {
    const rows = [
      [1, 1, 0, 1, 0.2, 0.5],
      [2, 2, 0, 0, 0.9, 0.5],
      [3, 3, 1, 0, 0.1, 0.5],
      [3, 1, 0, 1, 0.3, 0.6],
    ].map((row, i) => [...row, 0.7 + i / 100]);
    const layers = rows[0]!.length - TRACE_COLUMNS;
    const judged = judgedDrafts({ sequence: 0, emittedTokens: 4, cancelled: false, trace: Float32Array.from(rows.flat()) }, layers);
    expect(judged.map(({ token, draft, accepted }) => [token, draft, accepted])).toEqual([[1, 1, true], [2, 2, false], [3, 1, true]]);
    expect(judged.map(({ lastStatistic }) => Number(lastStatistic.toFixed(3)))).toEqual([1, 1, 0.9]);
    expect(judged[2]!.entropies[0]).toBeCloseTo(0.73, 5);
  });
});

describe('breakEven', () => {
  it('is cost times rate, and never so high that nothing is drafted', () => {
    expect(breakEven({ draft: 0.1, verify: 0.15 }, 2)).toBeCloseTo(0.5, 12);
    expect(breakEven({ draft: 1, verify: 1 }, 3)).toBe(0.95);
  });
});
