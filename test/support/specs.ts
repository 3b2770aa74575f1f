import type { SequenceSpec, SpeculationSpec } from '../../src/engine/native-types.js';
import { FAKE_MODEL } from './fake-engine.js';

export const BOI = FAKE_MODEL.boiTokenId;

/** A prompt row of `length` ids, different for every `content`, ending with boi. */
export function promptRow(content: number, length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => (i === length - 1 ? BOI : (content * 31 + i * 7) % 128));
}

/** A picture with every field set; tests override what they are about. */
export function sequenceSpec(id: number, overrides: Partial<SequenceSpec> = {}): SequenceSpec {
  return {
    id,
    promptRows: [promptRow(id, 12), promptRow(999, 7)],
    gridHeight: 2,
    gridWidth: 3,
    seed: id,
    sampler: 'B',
    samplerLevel: 0.8,
    timesteps: 4,
    timestepShift: 1,
    guidanceScale: 3,
    imageGuidanceScale: 1,
    guidanceSchedule: 'constant',
    useNorm: false,
    ...overrides,
  };
}

export const SPECULATION: SpeculationSpec = {
  mode: 'relaxed',
  drafting: 'sequential',
  maxDraftTokens: 4,
  tolerance: 0.5,
  gate: { kind: 'off' },
  costs: { plain: 1, round: 0.5, draft: 0.1, verify: 0.05 },
  acceptance: 0.7,
  adaptive: true,
  trace: false,
};

/** Deterministic random integers for property tests. */
export { seededIntegers as randomIntegers } from '../../src/quality/random.js';
