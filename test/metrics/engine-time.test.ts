import { describe, expect, it } from 'vitest';
import type { DecodeEntry, PrefillEntry, SequenceSpec, StepPlan, StepResult } from '../../src/engine/native-types.js';
import { EngineTime } from '../../src/metrics/engine-time.js';

const spec = (id: number, timesteps: number, rows: number): SequenceSpec =>
  ({ id, timesteps, promptRows: Array.from({ length: rows }, () => new Int32Array(3)) }) as unknown as SequenceSpec;

const plan = (parts: Partial<StepPlan>): StepPlan => ({ release: [], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [], read: [], ...parts });

const prefill = (sequence: number, row: number, begin: number, end: number): PrefillEntry => ({ sequence, row, begin, end, blockTable: new Uint32Array() });

const decode = (sequence: number, rows: number, tokens = 1): DecodeEntry => ({ sequence, rounds: tokens, blockTables: Array.from({ length: rows }, () => new Uint32Array()) });

const result = (flowHead: number, backbone: number, vae: number, flowHeadEvaluations = 0, preview = 0): StepResult => ({
  decode: [],
  images: [],
  tokens: [],
  timings: { total: flowHead + backbone + vae + preview, flowHead, backbone, draft: 0, verify: 0, vae, preview },
  flowHeadEvaluations,
  backboneTokens: 0,
});

function ledger(): { time: EngineTime; live: Set<number>; wasted: Record<string, number> } {
  const live = new Set<number>();
  const wasted: Record<string, number> = {};
  const time = new EngineTime((id) => live.has(id), (reason, seconds) => {
    wasted[reason] = (wasted[reason] ?? 0) + seconds;
  });
  return { time, live, wasted };
}

describe('engine time', () => {
  it('divides a step by what each sequence computed', () => {
    const { time, live, wasted } = ledger();
    live.add(1).add(2);
    time.note(plan({ admit: [spec(1, 4, 1), spec(2, 8, 2)], prefill: [prefill(1, 0, 0, 3), prefill(2, 0, 0, 3), prefill(2, 1, 0, 3)] }), result(0, 0.9, 0));
    // 4 evaluations of one row against 8 of two: 4 : 16. One position against two.
    time.note(plan({ decode: [decode(1, 1), decode(2, 2)] }), result(2, 0.3, 0, 20));
    time.note(plan({ vae: [{ sequence: 1, tokens: 9 }, { sequence: 2, tokens: 9 }] }), result(0, 0, 1));
    time.abandon([1], 'api');
    expect(wasted.api).toBeCloseTo(0.3 + 0.4 + 0.1 + 0.5);
    time.abandon([2], 'disconnect');
    expect(wasted.disconnect).toBeCloseTo(0.6 + 1.6 + 0.2 + 0.5);
  });

  it('divides the timesteps of passes by rows, and their positions as any prefill', () => {
    const { time, live, wasted } = ledger();
    live.add(1).add(2);
    const ofClass = (id: number, guidanceScale: number): SequenceSpec => ({ ...spec(id, 20, 0), classLabel: 3, guidanceScale });
    time.note(plan({ admit: [ofClass(1, 1.3), ofClass(2, 1)], prefill: [prefill(1, 0, 0, 32), prefill(1, 1, 0, 32), prefill(2, 0, 0, 32)] }), result(0, 0.9, 0));
    // 8 timesteps of two rows against 4 of one; the step's overhead of 0.4 is divided alike.
    const answer = result(2, 0, 0);
    time.note(plan({ decode: [decode(1, 2, 8), decode(2, 1, 4)] }), { ...answer, timings: { ...answer.timings, total: 2.4 } });
    // The next pass begins; the first one of sequence 1 is computed again, after a preemption.
    time.note(plan({ prefill: [prefill(1, 0, 0, 48), prefill(2, 0, 32, 48)] }), result(0, 6.4, 0));
    time.abandon([1], 'api');
    expect(wasted.preemption).toBeCloseTo(3.2);
    expect(wasted.api).toBeCloseTo(0.6 + 2.4 * (16 / 20) + 1.6);
    time.abandon([2], 'disconnect');
    expect(wasted.disconnect).toBeCloseTo(0.3 + 2.4 * (4 / 20) + 1.6);
  });

  it('divides drafted passes by drafts, and of timesteps counts those that were drawn', () => {
    const { time, live, wasted } = ledger();
    live.add(1).add(2);
    const ofClass = (id: number): SequenceSpec => ({ ...spec(id, 20, 0), classLabel: 3, guidanceScale: 1 });
    time.note(plan({ admit: [ofClass(1), ofClass(2)] }), result(0, 0, 0));
    const outcome = (sequence: number, accepted: number[], drafted: number) => ({
      sequence, emittedTokens: accepted.length, cancelled: false, accepted: Uint8Array.from(accepted), rounds: [{ drafted, accepted: accepted[0]!, gateStopped: false, draftEntropy: NaN, targetEntropy: NaN }],
    });
    const timings = { ...result(0, 0, 0).timings, draft: 0.25, verify: 0.75 };
    // Both drafted; of the second the draft was refused, and three timesteps drawn.
    const answer = { ...result(0, 0, 0), timings: { ...timings, flowHead: 3, total: 5 }, decode: [outcome(1, Array<number>(20).fill(1), 1), outcome(2, [0, 0, 0], 1)] };
    time.note(plan({ decode: [decode(1, 1, 3), decode(2, 1, 3)] }), answer);
    // Nothing but a draft: the step's rest of 0.5 is its own.
    time.note(plan({ decode: [decode(1, 1, 3)] }), { ...answer, timings: { ...timings, total: 1.5 }, decode: [outcome(1, Array<number>(20).fill(1), 1)] });
    time.abandon([1], 'api');
    expect(wasted.api).toBeCloseTo(0.5 + 1.5);
    time.abandon([2], 'disconnect');
    // With the 3 of its timesteps the rest of 1 as well.
    expect(wasted.disconnect).toBeCloseTo(0.5 + 4);
  });

  it('divides drafting among those who drafted, and the rest by what their rounds came to', () => {
    const { time, live, wasted } = ledger();
    live.add(1).add(2);
    // By few steps: one evaluation a token. Plain: four.
    time.note(plan({ admit: [{ ...spec(1, 9, 1), fewStep: 1 }, spec(2, 4, 1)], prefill: [prefill(1, 0, 0, 3), prefill(2, 0, 0, 3)] }), result(0, 0, 0));
    const round = (drafted: number, accepted: number) => ({ drafted, accepted, gateStopped: false, draftEntropy: NaN, targetEntropy: NaN });
    const answer = result(6, 1.2, 0);
    const timings = { ...answer.timings, draft: 0.5, verify: 0.25, total: answer.timings.total + 0.75 };
    const decodes = [
      { sequence: 1, emittedTokens: 4, cancelled: false, accepted: new Uint8Array(4), rounds: [round(3, 2), round(3, 0)] },
      { sequence: 2, emittedTokens: 4, cancelled: false },
    ];
    // Sequence 1: 2 evaluations, 8 positions, all drafting. Sequence 2: 16 evaluations, 4 positions.
    time.note(plan({ decode: [decode(1, 1, 2), decode(2, 1, 4)] }), { ...answer, timings, decode: decodes });
    time.note(plan({ prefill: [prefill(1, 0, 0, 8)] }), result(0, 8, 0));
    // Its 3 prompt positions and 4 tokens, not those that were drafted in vain.
    expect(wasted.preemption).toBeCloseTo(7);
    time.abandon([2], 'disconnect');
    expect(wasted.disconnect).toBeCloseTo((6 * 16) / 18 + 0.4);
    time.abandon([1], 'api');
    expect(wasted.api).toBeCloseTo((6 * 2) / 18 + 0.8 + 0.75 + 1);
  });

  it('charges a partial picture to the sequence it shows, and not to those that draw beside it', () => {
    const { time, live, wasted } = ledger();
    live.add(1).add(2);
    time.note(plan({ admit: [spec(1, 4, 1), spec(2, 4, 1)] }), result(0, 0, 0));
    time.note(plan({ decode: [decode(2, 1)], vae: [{ sequence: 1, tokens: 3 }] }), result(2, 0.5, 0, 4, 0.25));
    time.abandon([1], 'api');
    time.abandon([2], 'disconnect');
    expect(wasted.api).toBeCloseTo(0.25);
    expect(wasted.disconnect).toBeCloseTo(2.5);
  });

  it('counts what steps in flight still spend after a cancel, until the release', () => {
    const { time, live, wasted } = ledger();
    live.add(1);
    // Cancelled before its first step was over.
    time.abandon([1], 'api');
    time.note(plan({ admit: [spec(1, 4, 1)], prefill: [prefill(1, 0, 0, 3)] }), result(0, 1, 0));
    time.note(plan({ decode: [decode(1, 1)] }), result(2, 1, 0, 4));
    time.note(plan({ release: [1] }), result(0, 0, 0));
    expect(wasted).toEqual({ api: 4 });
    expect(time.size).toBe(0);
  });

  it('counts recomputing after a preemption, and only that', () => {
    const { time, live, wasted } = ledger();
    live.add(1);
    time.note(plan({ admit: [spec(1, 4, 1)], prefill: [prefill(1, 0, 0, 3)] }), result(0, 1, 0));
    time.note(plan({ decode: [decode(1, 1, 2)] }), result(1, 1, 0, 8));
    expect(wasted).toEqual({});
    // Its 3 prompt positions and 2 drawn tokens were computed before; it lost them, and one more is new.
    time.note(plan({ prefill: [prefill(1, 0, 0, 6)] }), result(0, 6, 0));
    expect(wasted).toEqual({ preemption: 5 });
  });

  it('wastes nothing on what is delivered, and keeps nothing', () => {
    const { time, live, wasted } = ledger();
    live.add(1);
    time.note(plan({ admit: [spec(1, 4, 1)], prefill: [prefill(1, 0, 0, 3)] }), result(0, 1, 0));
    time.settle([1]);
    time.note(plan({ release: [1] }), result(0, 0, 0));
    time.abandon([1], 'api');
    expect(wasted.api ?? 0).toBeLessThanOrEqual(0);
    live.delete(1);
    time.abandon([1], 'api');
    expect(time.size).toBe(0);
  });

  it('forgets those whose step broke off', () => {
    const { time, live } = ledger();
    live.add(1);
    time.note(plan({ admit: [spec(1, 4, 1)], prefill: [prefill(1, 0, 0, 3)] }), result(0, 1, 0));
    time.abandon([1], 'error');
    time.stepFailed();
    expect(time.size).toBe(0);
  });
});
