import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ACCELERATOR_FOLDER, CALIBRATION_FILE, recordOf, type CalibratedMode, type CalibratedSpeculation, type Calibration, type ModeKey } from '../../src/model/accelerator.js';
import { readManifest } from '../../src/model/manifest.js';
import { hashFile, hashModel } from '../../src/model/model-hash.js';

/** A safetensors file of one float32 tensor. */
export function tinySafetensors(values: readonly number[], name = 'a'): Buffer {
  const header = Buffer.from(JSON.stringify({ [name]: { dtype: 'F32', shape: [values.length], data_offsets: [0, 4 * values.length] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.from(Float32Array.from(values).buffer)]);
}

const SPECULATION: CalibratedSpeculation = {
  drafting: 'sequential',
  max_draft_tokens: 4,
  tolerance: 0.5,
  acceptance: 0.7,
  gate: { kind: 'off' },
  costs: { plain: 1, round: 0.5, draft: 0.1, verify: 0.05 },
};

export function calibratedMode(speedup: number, { drafts = false, passed = true, ...speculation }: Partial<CalibratedSpeculation> & { drafts?: boolean; passed?: boolean } = {}): CalibratedMode {
  return {
    guard: {
      passed,
      fd: 1,
      fd_vanilla: 1,
      fd_difference_interval: [-0.1, 0.1],
      diversity: 5,
      diversity_vanilla: 5,
      adherence: 0.9,
      adherence_vanilla: 0.9,
      pictures: 10,
      seeds: [1],
      faults: passed ? [] : ['FD +1'],
    },
    speedup,
    speculation: drafts ? { ...SPECULATION, ...speculation } : null,
  };
}

/** All eight modes, `relaxed:few_step:1` fastest; `few_step:4` passed nothing. */
export const ALL_MODES: Readonly<Record<ModeKey, CalibratedMode>> = {
  exact: calibratedMode(1.1, { drafts: true, tolerance: 0 }),
  relaxed: calibratedMode(1.5, { drafts: true }),
  'few_step:1': calibratedMode(3.5),
  'few_step:2': calibratedMode(3),
  'few_step:4': calibratedMode(2, { passed: false }),
  'relaxed:few_step:1': calibratedMode(4.5, { drafts: true, max_draft_tokens: 6, tolerance: 0.1 }),
  'relaxed:few_step:2': calibratedMode(3.2, { drafts: true }),
  'relaxed:few_step:4': calibratedMode(2.1, { drafts: true }),
};

/** Of a model that draws in passes: no exact, and drafts of two jumps. `few_step:4` passed nothing. */
export const PASS_MODES: Readonly<Partial<Record<ModeKey, CalibratedMode>>> = {
  relaxed: calibratedMode(2.5, { drafts: true, max_draft_tokens: 1, draft_jumps: 2 }),
  'few_step:1': calibratedMode(9),
  'few_step:2': calibratedMode(7),
  'few_step:4': calibratedMode(5, { passed: false }),
  'relaxed:few_step:2': calibratedMode(6, { drafts: true, max_draft_tokens: 1, draft_jumps: 2 }),
};

/** Puts an accelerator into a model folder, with stand-ins for weights; what it says fits the folder unless overridden. */
export function writeAccelerator(directory: string, overrides: Readonly<Record<string, unknown>> = {}): Calibration {
  const folder = join(directory, ACCELERATOR_FOLDER);
  mkdirSync(folder, { recursive: true });
  const isOfClasses = readManifest(directory).promptMode === 'class';
  for (const name of isOfClasses ? ['few_step'] : ['draft', 'few_step']) writeFileSync(join(folder, `${name}.safetensors`), tinySafetensors([1, 2, 3]));
  return writeCalibration(directory, overrides);
}

/** Only its accelerator.json. */
export function writeCalibration(directory: string, overrides: Readonly<Record<string, unknown>> = {}): Calibration {
  const { promptMode, sampling } = readManifest(directory);
  const isOfClasses = promptMode === 'class';
  const model = hashModel(directory);
  const files = isOfClasses ? ['few_step.safetensors'] : ['draft.safetensors', 'few_step.safetensors'];
  const calibration = {
    version: 1,
    model_hash: model.hash,
    model_files: model.files,
    accelerator_files: Object.fromEntries(files.map((file) => [file, hashFile(join(directory, ACCELERATOR_FOLDER, file))])),
    created: '2026-01-01T00:00:00Z',
    ...recordOf(sampling),
    dtype: 'bfloat16',
    draft: isOfClasses ? null : { file: 'draft.safetensors' },
    few_step: { file: 'few_step.safetensors', steps: [1, 2, 4] },
    modes: isOfClasses ? PASS_MODES : ALL_MODES,
    auto: isOfClasses ? { mode: 'off', few_step: 1 } : { mode: 'relaxed', few_step: 1 },
    ...overrides,
  };
  writeFileSync(join(directory, ACCELERATOR_FOLDER, CALIBRATION_FILE), JSON.stringify(calibration));
  return calibration as Calibration;
}
