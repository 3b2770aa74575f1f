import { describe, expect, it } from 'vitest';
import type { StepPlan, StepResult } from '../../../src/engine/native-types.js';
import { BurstPolicy } from '../../../src/worker/scheduler/burst.js';

const PLAN: StepPlan = { release: [], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [], read: [] };

function note(policy: BurstPolicy, tokens: number, seconds: number, cancelled = false): void {
  const plan = { ...PLAN, decode: [{ sequence: 1, blockTables: [], rounds: tokens }] };
  const decode = [{ sequence: 1, emittedTokens: tokens, cancelled }];
  policy.note(plan, { decode, timings: { flowHead: seconds / 4, backbone: seconds / 4, draft: seconds / 4, verify: seconds / 4 } } as StepResult);
}

describe('BurstPolicy', () => {
  it('draws one token until it knows, then what fits 4 ms, at most 16', () => {
    const policy = new BurstPolicy();
    expect(policy.rounds).toBe(1);
    note(policy, 1, 0.001);
    expect(policy.rounds).toBe(4);
    for (let i = 0; i < 10; i += 1) note(policy, 4, 0.0006);
    expect(policy.rounds).toBe(16);
    for (let i = 0; i < 10; i += 1) note(policy, 1, 0.05);
    expect(policy.rounds).toBe(1);
  });

  it('learns nothing from steps that a cancel cut short, nor from prefills', () => {
    const policy = new BurstPolicy();
    note(policy, 1, 0, true);
    expect(policy.rounds).toBe(1);
    for (let i = 0; i < 3; i += 1) note(policy, 1, 1);
    for (let i = 0; i < 20; i += 1) note(policy, 1, 0, true);
    expect(policy.rounds).toBe(1);
    policy.note({ ...PLAN, prefill: [{ sequence: 1, row: 0, begin: 0, end: 1, blockTable: new Uint32Array() }], decode: [{ sequence: 1, blockTables: [], rounds: 1 }] }, { decode: [], timings: { flowHead: 0, backbone: 0, draft: 0, verify: 0 } } as unknown as StepResult);
    expect(policy.rounds).toBe(1);
  });
});
