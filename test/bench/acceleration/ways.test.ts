import { describe, expect, it } from 'vitest';
import { calibratedWays, columnsOf, fewerTimesteps } from '../../../bench/acceleration/ways.js';
import type { Calibration, ModeKey } from '../../../src/model/accelerator.js';
import { sequenceSpec } from '../../support/specs.js';

const speculation = {
  drafting: 'parallel' as const, max_draft_tokens: 4, tolerance: 0.25, acceptance: 0.8, gate: { kind: 'off' as const }, costs: { plain: 0.3, round: 0.4, draft: 0.05, verify: 0.1 },
};

/** A calibration with these modes: speedup, and whether the guard passed. */
function calibration(modes: Partial<Record<ModeKey, [speedup: number, passed: boolean]>>): Calibration {
  const entries = Object.entries(modes).map(([key, [speedup, passed]]) => [key, { speedup, guard: { passed }, speculation: key.startsWith('few_step') ? null : speculation }]);
  return { modes: Object.fromEntries(entries) } as unknown as Calibration;
}

describe('columnsOf', () => {
  it('takes the fastest whose guard passed', () => {
    const { few_step, exact, relaxed, both } = columnsOf(
      calibratedWays(calibration({ 'few_step:1': [3, false], 'few_step:2': [2.5, true], 'few_step:4': [2, true], 'relaxed:few_step:1': [4, true], 'relaxed:few_step:2': [3, true] })),
    );
    expect([few_step?.name, exact, relaxed, both?.name]).toEqual(['few_step:2', undefined, undefined, 'relaxed:few_step:1']);
  });

  it('where none passed, the fastest, whose stored guard says so', () => {
    const { few_step } = columnsOf(calibratedWays(calibration({ 'few_step:1': [3, false], 'few_step:2': [2.5, false] })));
    expect(few_step).toMatchObject({ name: 'few_step:1', mode: { guard: { passed: false } } });
  });
});

describe('calibratedWays', () => {
  it('draw as the file says', () => {
    const ways = calibratedWays(calibration({ 'relaxed:few_step:2': [4, true], 'few_step:2': [3, true], exact: [1, true] }));
    const spec = sequenceSpec(1);
    const drawn = ways.get('relaxed:few_step:2')!.way(spec);
    expect(drawn).toMatchObject({ fewStep: 2, promptRows: [spec.promptRows[0]] });
    expect(drawn.speculation).toEqual({ mode: 'relaxed', drafting: 'parallel', maxDraftTokens: 4, tolerance: 0.25, acceptance: 0.8, gate: { kind: 'off' }, costs: speculation.costs, adaptive: true, trace: false });
    expect(ways.get('few_step:2')!.way(spec).speculation).toBeUndefined();
    expect(ways.get('exact')!.way(spec)).toMatchObject({ fewStep: 0, promptRows: spec.promptRows, speculation: { mode: 'exact' } });
  });
});

describe('fewerTimesteps', () => {
  it('halves them', () => {
    expect(fewerTimesteps(8).map(({ name, way }) => [name, way(sequenceSpec(1)).timesteps])).toEqual([['off, 4 timesteps', 4], ['off, 2 timesteps', 2], ['off, 1 timestep', 1]]);
  });
});
