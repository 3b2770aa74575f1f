import { Registry } from 'prom-client';
import { beforeEach, describe, expect, it } from 'vitest';
import type { DecodeResult, RoundRecord, StepPlan, StepResult } from '../../src/engine/native-types.js';
import { createSpeculationMetrics, tokensDrawn, type SpeculationMetrics } from '../../src/metrics/speculation.js';
import { valueOf } from '../support/exposition.js';

let registry: Registry;
let metrics: SpeculationMetrics;

beforeEach(() => {
  registry = new Registry();
  metrics = createSpeculationMetrics(registry, 'm');
});

const value = async (selector: string): Promise<number | null> => valueOf(await registry.metrics(), `ardiff_spec_decode_${selector}`);

const round = (drafted: number, accepted: number, gateStopped = false): RoundRecord => ({
  drafted, accepted, gateStopped, draftEntropy: drafted === 0 ? NaN : 0.55, targetEntropy: drafted === 0 ? NaN : 0.75,
});

const step = (decode: DecodeResult[]): StepResult => ({ decode, images: [], tokens: [], timings: { total: 0, flowHead: 0, backbone: 0, draft: 0, verify: 0, vae: 0, preview: 0 }, flowHeadEvaluations: 0, backboneTokens: 0 });

describe('speculation metrics', () => {
  it('are there from the start, at zero', async () => {
    for (const name of ['rounds', 'drafts', 'draft_tokens', 'accepted_tokens', 'gate_stops']) expect(await value(`${name}_total{model="m"}`)).toBe(0);
  });

  it('count rounds, drafts, what was accepted and where', async () => {
    const accepted = new Uint8Array([0, 1, 1, 1, 0, 1, 0]);
    metrics.step(step([
      { sequence: 1, emittedTokens: 7, cancelled: false, accepted, rounds: [round(4, 3), round(4, 1, true), round(0, 0)] },
      { sequence: 2, emittedTokens: 1, cancelled: false },
      { sequence: 3, emittedTokens: 9, cancelled: true, accepted, rounds: [round(4, 4)] },
    ]));
    expect(await value('rounds_total{model="m"}')).toBe(3);
    expect(await value('drafts_total{model="m"}')).toBe(2);
    expect(await value('draft_tokens_total{model="m"}')).toBe(8);
    expect(await value('accepted_tokens_total{model="m"}')).toBe(4);
    expect(await value('gate_stops_total{model="m"}')).toBe(1);
    expect(await Promise.all([0, 1, 2, 3].map((position) => value(`accepted_tokens_per_pos_total{model="m",position="${position}"}`)))).toEqual([2, 1, 1, null]);
    expect(await value('tokens_per_round_sum{model="m"}')).toBe(4 + 2 + 1);
    expect(await value('tokens_per_round_bucket{model="m",le="1"}')).toBe(1);
    // A round without drafts has no entropies.
    expect(await value('entropy_ratio_count{model="m",side="draft"}')).toBe(2);
    expect(await value('entropy_ratio_sum{model="m",side="target"}')).toBe(1.5);
  });
});

describe('tokensDrawn', () => {
  it('is what was planned, or what the rounds came to; nothing of a cancelled sequence', () => {
    const entry = (sequence: number, rounds: number) => ({ sequence, rounds, blockTables: [] });
    const plan: StepPlan = { release: [], admit: [], copies: new Uint32Array(), prefill: [], decode: [entry(1, 3), entry(2, 2), entry(3, 4)], vae: [], read: [] };
    const result = step([
      { sequence: 1, emittedTokens: 3, cancelled: false },
      { sequence: 2, emittedTokens: 7, cancelled: false, accepted: new Uint8Array(7), rounds: [] },
      { sequence: 3, emittedTokens: 1, cancelled: true },
    ]);
    expect(tokensDrawn(plan, result)).toBe(10);
  });
});
