import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseAcceleration, type AccelerationInput } from '../../src/gateway/acceleration.js';
import type { Calibration, DefaultAcceleration } from '../../src/model/accelerator.js';
import { ALL_MODES, calibratedMode, writeAccelerator } from '../support/accelerator-folder.js';
import { writeModelFolder } from '../support/model-folder.js';

let calibration: Calibration;
let remove: () => void;

beforeAll(() => {
  const folder = writeModelFolder();
  remove = folder.remove;
  calibration = writeAccelerator(folder.directory);
});

afterAll(() => {
  remove();
});

interface Model {
  calibration?: Calibration | null;
  acceleration?: DefaultAcceleration;
}

/** What is drawn, in short: `mode/few_step`. */
function drawn(input: AccelerationInput, model: Model = {}): string {
  const { fewStep, speculation, lowTimesteps } = chooseAcceleration(input, { calibration, acceleration: 'auto', ...model });
  return `${speculation?.mode ?? 'off'}/${fewStep}${lowTimesteps ? ' low' : ''}`;
}

const asking = (acceleration: NonNullable<AccelerationInput['acceleration']>, rest: AccelerationInput = {}): AccelerationInput => ({ acceleration, ...rest });

describe('chooseAcceleration, what is drawn', () => {
  it.each<[string, AccelerationInput, Model, string]>([
    ['nothing said: the fastest that passed', {}, {}, 'relaxed/1'],
    ['a folder without an accelerator', {}, { calibration: null }, 'off/0'],
    ['the server says off', {}, { acceleration: 'off' }, 'off/0'],
    ['the server names a mode', {}, { acceleration: 'few_step:2' }, 'off/2'],
    ['the server names exact', {}, { acceleration: 'exact' }, 'exact/0'],
    ['the request asks for auto, whatever the server says', asking({ mode: 'auto' }), { acceleration: 'off' }, 'relaxed/1'],
    ['the request says off', asking({ mode: 'off' }), {}, 'off/0'],
    ['few steps without drafts', asking({ mode: 'off', few_step: 1 }), {}, 'off/1'],
    ['exact', asking({ mode: 'exact' }), {}, 'exact/0'],
    ['relaxed alone', asking({ mode: 'relaxed' }), {}, 'relaxed/0'],
    ['relaxed with few steps', asking({ mode: 'relaxed', few_step: 2 }), {}, 'relaxed/2'],
    ['some number of steps: drafts, as they are faster', asking({ few_step: 2 }), {}, 'relaxed/2'],
    ['one whose guard did not pass, by name', asking({ mode: 'off', few_step: 4 }), {}, 'off/4'],
    ['no few steps: the fastest of the model’s own sampler', asking({ few_step: 0 }), {}, 'relaxed/0'],
    ['no few steps, on a folder without an accelerator', asking({ mode: 'auto', few_step: 0 }), { calibration: null }, 'off/0'],
    ['quality high', { quality: 'high' }, {}, 'off/0'],
    ['quality hd', { quality: 'hd' }, {}, 'off/0'],
    ['quality medium', { quality: 'medium' }, {}, 'relaxed/1'],
    ['quality auto', { quality: 'auto' }, { acceleration: 'off' }, 'off/0'],
    ['quality low: the fewest steps', { quality: 'low' }, {}, 'relaxed/1'],
    ['quality low where nothing passed', { quality: 'low' }, { calibration: null }, 'off/0 low'],
    ['quality low on a server that says off', { quality: 'low' }, { acceleration: 'off' }, 'off/0 low'],
    ['quality high, but the request names a mode', asking({ mode: 'relaxed', few_step: 1 }, { quality: 'high' }), {}, 'relaxed/1'],
    ['quality high and only a number of drafts', asking({ max_draft_tokens: 3 }, { quality: 'high' }), {}, 'off/0'],
    ['no drafts allowed', asking({ mode: 'relaxed', few_step: 1, max_draft_tokens: 0 }), {}, 'off/1'],
    ['no drafts allowed, and no few steps', asking({ mode: 'exact', max_draft_tokens: 0 }), {}, 'off/0'],
  ])('%s', (_what, input, model, expected) => {
    expect(drawn(input, model)).toBe(expected);
  });

  it('chooses nothing that did not pass, and nothing that is slower than off', () => {
    const modes = { ...ALL_MODES, relaxed: calibratedMode(1.5, { drafts: true, passed: false }), exact: calibratedMode(0.98, { drafts: true }) };
    expect(drawn(asking({ few_step: 0 }), { calibration: { ...calibration, modes } })).toBe('off/0');
    const slow = { ...ALL_MODES, 'relaxed:few_step:2': calibratedMode(2.9, { drafts: true }) };
    expect(drawn(asking({ few_step: 2 }), { calibration: { ...calibration, modes: slow } })).toBe('off/2');
    // Asked for by name it is drawn all the same.
    expect(drawn(asking({ mode: 'relaxed' }), { calibration: { ...calibration, modes } })).toBe('relaxed/0');
  });

  it('takes how to draft from the calibration, and fewer drafts where the request says so', () => {
    const choose = (limit?: number) => chooseAcceleration(asking({ mode: 'relaxed', few_step: 1, ...(limit === undefined ? {} : { max_draft_tokens: limit }) }), { calibration, acceleration: 'auto' }).speculation;
    expect(choose()).toEqual({
      mode: 'relaxed', drafting: 'sequential', maxDraftTokens: 6, tolerance: 0.1, gate: { kind: 'off' }, costs: { plain: 1, round: 0.5, draft: 0.1, verify: 0.05 }, acceptance: 0.7, adaptive: true, trace: false,
    });
    expect(choose(2)?.maxDraftTokens).toBe(2);
    expect(choose(50)?.maxDraftTokens).toBe(6);
  });
});

describe('chooseAcceleration, what cannot be', () => {
  const other: Record<string, AccelerationInput> = {
    num_inference_steps: { num_inference_steps: 8 },
    guidance_scale: { guidance_scale: 4 },
    negative_prompt: { negative_prompt: 'blurry' },
  };

  it.each<[string, AccelerationInput, Model, string]>([
    ['exact with few steps', asking({ mode: 'exact', few_step: 1 }), {}, 'acceleration.few_step'],
    ['exact without a calibration', asking({ mode: 'exact' }), { calibration: null }, 'acceleration.mode'],
    ['relaxed without a calibration', asking({ mode: 'relaxed' }), { calibration: null }, 'acceleration.mode'],
    ['few steps without a calibration', asking({ few_step: 1 }), { calibration: null }, 'acceleration.few_step'],
    ['relaxed few steps without a calibration', asking({ mode: 'relaxed', few_step: 1 }), { calibration: null }, 'acceleration.few_step'],
    ...Object.entries(other).flatMap(([param, rest]): [string, AccelerationInput, Model, string][] => [
      [`few steps with ${param}`, asking({ few_step: 1 }, rest), {}, param],
      [`relaxed few steps with ${param}`, asking({ mode: 'relaxed', few_step: 2 }, rest), {}, param],
    ]),
    ['relaxed with other timesteps', asking({ mode: 'relaxed' }, { num_inference_steps: 9 }), {}, 'num_inference_steps'],
    ['relaxed with other guidance', asking({ mode: 'relaxed' }, { guidance_scale: 4 }), {}, 'guidance_scale'],
    ['relaxed with a negative prompt', asking({ mode: 'relaxed' }, { negative_prompt: 'blurry' }), {}, 'negative_prompt'],
    ['relaxed with the timesteps of quality low', asking({ mode: 'relaxed' }, { quality: 'low' }), {}, 'quality'],
  ])('%s: refused, naming the field', (_what, input, model, param) => {
    expect(() => drawn(input, model)).toThrow(expect.objectContaining({ code: 'unsupported_value', status: 400, param }));
  });

  it.each(Object.entries(other))('%s where the server merely chose: drawn by the sampler', (_param, rest) => {
    expect(drawn(rest)).toBe('off/0');
    expect(drawn(asking({ mode: 'auto' }, rest))).toBe('off/0');
    expect(drawn({ quality: 'low', ...rest })).toBe('off/0 low');
  });

  it('names a mode that the folder has not calibrated', () => {
    const missing = ['exact', 'relaxed:few_step:2', 'few_step:4', 'relaxed:few_step:4'];
    const modes = Object.fromEntries(Object.entries(ALL_MODES).filter(([key]) => !missing.includes(key)));
    const some = { calibration: { ...calibration, modes } };
    expect(() => drawn(asking({ mode: 'exact' }), some)).toThrow(expect.objectContaining({ param: 'acceleration.mode', message: expect.stringContaining('"exact"') }));
    expect(() => drawn(asking({ mode: 'relaxed', few_step: 2 }), some)).toThrow(expect.objectContaining({ param: 'acceleration.mode', message: expect.stringContaining('with few_step 2') }));
    expect(() => drawn(asking({ few_step: 4 }), some)).toThrow(expect.objectContaining({ param: 'acceleration.few_step', message: 'This model draws with few_step 0, 1, 2.' }));
  });

  it('takes what was distilled when it is spelled out', () => {
    expect(drawn(asking({ few_step: 1 }, { guidance_scale: 2.5, negative_prompt: '' }))).toBe('relaxed/1');
    expect(drawn(asking({ mode: 'relaxed' }, { num_inference_steps: 8 }))).toBe('relaxed/0');
  });

  it('draws exactly whatever the request asks for: its law is kept', () => {
    expect(drawn(asking({ mode: 'exact' }, { num_inference_steps: 30, guidance_scale: 4, negative_prompt: 'blurry' }))).toBe('exact/0');
    expect(drawn(asking({ mode: 'exact' }, { quality: 'low' }))).toBe('exact/0 low');
  });
});

describe('chooseAcceleration, under load', () => {
  const underLoad = (input: AccelerationInput, model: Model = {}): number => chooseAcceleration(input, { calibration, acceleration: 'auto', ...model }).underLoad;

  it('allows few steps without drafts where the request left the choice to the server', () => {
    expect(underLoad({})).toBe(1);
    expect(underLoad({}, { acceleration: 'relaxed' })).toBe(1);
    expect(underLoad({ quality: 'low' })).toBe(1);
    expect(underLoad(asking({ few_step: 0 }))).toBe(0);
  });

  it('never where it asked for something, or where nothing is drafted anyway', () => {
    for (const input of [asking({ mode: 'relaxed', few_step: 1 }), asking({ few_step: 2 }), asking({ mode: 'exact' }), { quality: 'high' as const }]) expect(underLoad(input)).toBe(0);
    expect(underLoad({}, { acceleration: 'few_step:1' })).toBe(0);
    // Drawn by the model's own sampler at these timesteps, drafting: few steps would be something else.
    expect(underLoad({ num_inference_steps: 8 }, { acceleration: 'relaxed' })).toBe(0);
  });
});
