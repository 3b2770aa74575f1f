import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isUncalibrated, modeKeyOf, readCalibration, type Calibration } from '../../src/model/accelerator.js';
import { readManifest, readNextStepManifest } from '../../src/model/manifest.js';
import { ALL_MODES, calibratedMode, PASS_MODES, tinySafetensors, writeAccelerator } from '../support/accelerator-folder.js';
import { writeClassFolder } from '../support/class-folder.js';
import { writeModelFolder } from '../support/model-folder.js';
import { refusalOf } from '../support/refusal.js';

let directory: string;
let remove: () => void;

beforeEach(() => {
  ({ directory, remove } = writeModelFolder());
  writeFileSync(join(directory, 'model.safetensors'), tinySafetensors([1, 2, 3]));
});

afterEach(() => {
  remove();
});

const read = (): Calibration | null => readCalibration(directory, readNextStepManifest(directory).sampling);

const problem = (): string => refusalOf(read);

describe('readCalibration', () => {
  it('gives null for a folder without an accelerator', () => {
    expect(read()).toBeNull();
  });

  it('reads what was written', () => {
    expect(read()).toBeNull();
    const written = writeAccelerator(directory, { gate_report: { auc: 0.6 }, data: {} });
    expect(read()).toEqual(JSON.parse(JSON.stringify(written)));
  });

  it('uses nothing of a folder that was not calibrated', () => {
    expect(isUncalibrated(directory)).toBe(false);
    writeAccelerator(directory);
    expect(isUncalibrated(directory)).toBe(false);
    rmSync(join(directory, 'accelerator', 'accelerator.json'));
    expect(read()).toBeNull();
    expect(isUncalibrated(directory)).toBe(true);
  });

  it('refuses a broken file', () => {
    mkdirSync(join(directory, 'accelerator'));
    writeFileSync(join(directory, 'accelerator', 'accelerator.json'), '{"version": 1');
    expect(problem()).toMatch(/is not JSON/);
    writeFileSync(join(directory, 'accelerator', 'accelerator.json'), '[]');
    expect(problem()).toMatch(/accelerator\.json: the file: Expected object/);
  });

  it.each([
    ['an unknown version', { version: 2 }, /"version"/],
    ['a path for a file', { draft: { file: '../x.safetensors' } }, /"draft/],
    ['a hash that is none', { model_hash: 'abc' }, /"model_hash"/],
    ['too many drafts', { modes: { relaxed: calibratedMode(2, { drafts: true, max_draft_tokens: 16 }) }, auto: { mode: 'off', few_step: 0 } }, /"modes\/relaxed\/speculation/],
    ['a gate without its layer', { modes: { relaxed: calibratedMode(2, { drafts: true, gate: { kind: 'paper', mean: 0.8, std: 0.1 } as never }) }, auto: { mode: 'off', few_step: 0 } }, /"modes\/relaxed/],
    ['an automatic mode that did not pass', { auto: { mode: 'off', few_step: 4 } }, /"auto" names off with few_step 4, whose guard has not passed/],
    ['an automatic mode that cannot be', { auto: { mode: 'exact', few_step: 1 } }, /"auto" names exact with few_step 1/],
    ['drafts without a draft model', { draft: null }, /mode "exact" needs a draft model/],
    ['a mode that should draft and does not', { modes: { ...ALL_MODES, relaxed: calibratedMode(2) } }, /mode "relaxed" has no "speculation"/],
    ['a mode that should not draft and does', { modes: { ...ALL_MODES, 'few_step:2': calibratedMode(2, { drafts: true }) } }, /mode "few_step:2" does not draft/],
    ['jumps the head was not trained for', { few_step: { file: 'few_step.safetensors', steps: [1, 4] } }, /mode "few_step:2" needs 2/],
    ['other sampling', { timesteps: 9 }, /was measured with timesteps 9, the model's own is 8/],
    ['other guidance', { guidance_scale: 7 }, /was measured with guidance_scale 7/],
  ])('refuses %s', (_what, overrides, message) => {
    writeAccelerator(directory, overrides);
    expect(problem()).toMatch(message);
  });

  it('refuses an accelerator whose weights are gone', () => {
    writeAccelerator(directory);
    rmSync(join(directory, 'accelerator', 'few_step.safetensors'));
    expect(problem()).toMatch(/few_step\.safetensors: is missing, although accelerator\.json names it/);
  });

  it('refuses a draft model or a few-step head that was not the one measured', () => {
    for (const file of ['draft.safetensors', 'few_step.safetensors']) {
      writeAccelerator(directory);
      expect(read()).not.toBeNull();
      writeFileSync(join(directory, 'accelerator', file), tinySafetensors([1, 2, 5]));
      expect(problem()).toMatch(`${file}: is not the file that accelerator.json was measured with`);
    }
    writeAccelerator(directory, { accelerator_files: {} });
    expect(problem()).toMatch(/draft\.safetensors: is not the file/);
  });

  it('refuses one that was made for other weights, and names them', () => {
    writeAccelerator(directory);
    writeFileSync(join(directory, 'model.safetensors'), tinySafetensors([1, 2, 4]));
    expect(problem()).toMatch(/another model \(differs: model\.safetensors\)/);
  });

  it('notices another config, a file more, and a hash that was edited', () => {
    const { model_hash: hash } = writeAccelerator(directory);
    mkdirSync(join(directory, 'vae'), { recursive: true });
    writeFileSync(join(directory, 'vae', 'model.safetensors'), tinySafetensors([1]));
    expect(problem()).toMatch(/differs: vae\/model\.safetensors/);
    writeAccelerator(directory);
    expect(read()).not.toBeNull();
    writeAccelerator(directory, { model_hash: hash });
    expect(problem()).toMatch(/differs: model_hash/);
  });
});

describe('readCalibration of a model that draws in passes', () => {
  let classes: ReturnType<typeof writeClassFolder>;
  beforeEach(() => {
    classes = writeClassFolder();
  });
  afterEach(() => {
    classes.remove();
  });
  const readClasses = (): Calibration | null => readCalibration(classes.directory, readManifest(classes.directory).sampling);
  const relaxed = (changes: object): object => ({ ...PASS_MODES.relaxed!, speculation: { ...PASS_MODES.relaxed!.speculation!, ...changes } });
  const withMode = (changes: object): object => ({ modes: { ...PASS_MODES, relaxed: relaxed(changes) } });

  it('reads what was written', () => {
    expect(readClasses()).toBeNull();
    writeAccelerator(classes.directory);
    expect(readClasses()).toMatchObject({ sampler: 'maruyama', scale_0: 0.9, scale_1: 0.95, draft: null });
  });

  it.each<[string, object, RegExp]>([
    ['exact, which whole passes cannot be', { modes: { ...PASS_MODES, exact: ALL_MODES.exact } }, /mode "exact" is none of a model that draws in passes/],
    ['drafts of nobody knows how many jumps', withMode({ draft_jumps: undefined }), /mode "relaxed" says no "draft_jumps"/],
    ['drafts of jumps that were not trained for', { modes: { relaxed: relaxed({ draft_jumps: 4 }) }, few_step: { file: 'few_step.safetensors', steps: [1, 2] }, auto: { mode: 'off', few_step: 0 } }, /drafts by 4 jumps/],
    ['a gate', withMode({ gate: { kind: 'paper', layer: 0, mean: 0.8, std: 0.1 } }), /has a gate or parallel drafts/],
    ['parallel drafts', withMode({ drafting: 'parallel' }), /has a gate or parallel drafts/],
    ['other factors of drift', { scale_0: 1 }, /was measured with scale_0 1, the model's own is 0.9/],
    ['other timesteps', { timesteps: 9 }, /was measured with timesteps 9/],
  ])('refuses %s', (_what, overrides, message) => {
    writeAccelerator(classes.directory, overrides as Record<string, unknown>);
    expect(readClasses).toThrow(message);
  });
});

describe('modeKeyOf', () => {
  it('names a mode, or nothing where there is nothing to calibrate', () => {
    expect(modeKeyOf({ mode: 'off', fewStep: 0 })).toBeNull();
    expect(modeKeyOf({ mode: 'exact', fewStep: 0 })).toBe('exact');
    expect(modeKeyOf({ mode: 'exact', fewStep: 1 })).toBeNull();
    expect(modeKeyOf({ mode: 'off', fewStep: 2 })).toBe('few_step:2');
    expect(modeKeyOf({ mode: 'relaxed', fewStep: 4 })).toBe('relaxed:few_step:4');
  });
});
