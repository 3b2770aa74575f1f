import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CalibratedMode, CalibrationOptions, CalibrationResult } from '../../src/calibration/calibrate.js';
import { calibrationFile, DRAFT_FILE, FEW_STEP_FILE, readCalibrationFile, saveCalibration, withKeptModes, type CalibrationFile } from '../../src/calibration/file.js';
import type { Verdict } from '../../src/calibration/guard.js';
import { openUnaccelerated, type Studio } from '../../src/calibration/studio.js';
import { calibrationTable } from '../../src/calibration/table.js';
import type { EngineInfo } from '../../src/engine/native-types.js';
import { PACKAGE_ROOT } from '../../src/engine/native.js';
import { CALIBRATION_FILE, parseCalibration } from '../../src/model/accelerator.js';

const MODEL = join(PACKAGE_ROOT, 'models', 'nextstep-emoji64');
const ENGINE: EngineInfo = { backend: 'cpu', dtype: 'bfloat16', threads: 2, isa: 'avx512_bf16', libraries: 'oneDNN 2.6.3' };
const OPTIONS = { guard: { fdPictures: 2000, concepts: 200, seedsPerConcept: 4 }, tracedPictures: 64, timedPictures: 6, repetitions: 5 } as CalibrationOptions;

const verdict = (passed: boolean): Verdict => ({
  passed,
  scores: { fd: 1.1, adherence: 0.98, diversity: 0.6 },
  vanilla: { fd: 1.07, adherence: 0.985, diversity: 0.6 },
  diversityWanted: 0.6,
  fdDifference: 0.03,
  fdDifferenceInterval: { low: -0.02, high: 0.08 },
  faults: passed ? [] : ['FD +0.030, vanilla against itself up to +0.020'],
});

const MODES: CalibratedMode[] = [
  { key: 'few_step:1', combination: { mode: 'off', fewStep: 1 }, verdict: verdict(true), speedup: 2.123456789, trial: null, settings: null, gate: null, costError: null, tolerances: [] },
  {
    key: 'relaxed:few_step:1',
    combination: { mode: 'relaxed', fewStep: 1 },
    verdict: verdict(false),
    speedup: 4,
    settings: {
      drafting: 'parallel',
      maxDraftTokens: 8,
      tolerance: 0.25,
      acceptance: 0.8,
      gate: { kind: 'logistic', layer: 1, weights: [1, 2, 3, 4, 5, 6], threshold: 0.4 },
      costs: { plain: 0.3, round: 0.4, draft: 0.05, verify: 0.1 },
    },
    trial: null,
    gate: {
      drafts: 100, acceptance: 0.8, statistic: { median: 0.1, p90: 0.3 }, layers: [{ layer: 0, auc: 0.7, entropy_weight: -2, mean: 0.5, std: 0.1 }],
      auc_without_entropy: 0.6, auc_with_entropy: 0.7, layer: 0, usable: true,
    },
    costError: 0.02,
    tolerances: [{ tolerance: 0.25, speedup: 4, fdDifference: 0.03, passed: false }],
  },
];

const NOTHING = { low: -0.05, high: 0.05 };
const RESULT: CalibrationResult = { modes: MODES, spread: { fd: NOTHING, adherence: NOTHING, diversity: NOTHING }, auto: { mode: 'off', fewStep: 1 } };

describe('accelerator.json', () => {
  let folder: string;
  let calibration: CalibrationFile;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'calibration-'));
    const model = { info: { accelerator: { draftLayers: 2, draftHead: true, fewStep: true, parameters: 1 } } };
    const studio = { served: openUnaccelerated(MODEL), model } as unknown as Studio;
    writeFileSync(join(folder, DRAFT_FILE), 'weights');
    calibration = calibrationFile(studio, folder, ENGINE, RESULT, OPTIONS, new Date(0));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  it('is what the server reads', () => {
    const path = saveCalibration(folder, calibration);
    const read = parseCalibration(path, JSON.parse(readFileSync(path, 'utf8')));
    expect(read.model_hash).toMatch(/^[0-9a-f]{64}$/);
    expect(read).toMatchObject({
      version: 1,
      created: '1970-01-01T00:00:00.000Z',
      sampler: 'B',
      dtype: 'bfloat16',
      draft: { file: DRAFT_FILE },
      few_step: { file: FEW_STEP_FILE, steps: [1, 2, 4] },
      auto: { mode: 'off', few_step: 1 },
      modes: {
        'few_step:1': { speedup: 2.1235, speculation: null, guard: { passed: true, fd_difference_interval: [-0.02, 0.08], pictures: 2800 } },
        'relaxed:few_step:1': { speculation: { drafting: 'parallel', max_draft_tokens: 8, tolerance: 0.25, gate: { kind: 'logistic', layer: 1 } }, guard: { passed: false } },
      },
    });
  });

  it('keeps how the numbers came about', () => {
    expect(JSON.parse(JSON.stringify(calibration))).toMatchObject({
      vanilla_spread: { fd: NOTHING },
      data: { fdPictures: 2000, traced_pictures: 64 },
      gate_report: { 'relaxed:few_step:1': { usable: true } },
    });
  });

  it('is not written where the server would refuse it', () => {
    const path = join(folder, CALIBRATION_FILE);
    writeFileSync(path, 'before');
    const wrong: CalibrationFile = { ...calibration, auto: { mode: 'relaxed', few_step: 1 } };
    expect(() => saveCalibration(folder, wrong)).toThrow(/guard has not passed/);
    expect(readFileSync(path, 'utf8')).toBe('before');
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  it('keeps modes that were not measured again, and chooses among all', () => {
    saveCalibration(folder, calibration);
    const both = calibration.modes['relaxed:few_step:1']!;
    const fresh: CalibrationFile = { ...calibration, modes: { 'relaxed:few_step:1': { ...both, guard: { ...both.guard, passed: true } } } };
    const kept = withKeptModes(fresh, readCalibrationFile(folder));
    expect(Object.keys(kept.modes).sort()).toEqual(['few_step:1', 'relaxed:few_step:1']);
    expect(kept.auto).toEqual({ mode: 'relaxed', few_step: 1 });
  });

  it('keeps nothing that was measured with other weights', () => {
    const fresh: CalibrationFile = { ...calibration, modes: {}, accelerator_files: { [DRAFT_FILE]: 'another' } };
    expect(withKeptModes(fresh, calibration).modes).toEqual({});
    expect(withKeptModes(fresh, null)).toBe(fresh);
  });

  it('is a table for people', () => {
    const table = calibrationTable(RESULT);
    expect(table).toMatch(/few_step:1 .*2\.12x.*1\.100 .*\+0\.030 \(−0\.020 … \+0\.080\).*passed/);
    expect(table).toMatch(/relaxed:few_step:1 .*FD \+0\.030, vanilla/);
    expect(table).toMatch(/auto: off, few_step 1/);
  });
});
