import { describe, expect, it } from 'vitest';
import type { Model } from '../../../web/src/protocol/http.js';
import { accelerationChoices, captionOf, curlOf, fragmentOf, INITIAL, modelOfFragment, requestOf, rollSeed, seedsOf, settingsOfFragment, tokensOf, type Settings } from '../../../web/src/state/settings.js';

const MODEL: Model = {
  id: 'm',
  sizes: ['64x64', '128x64'],
  default_size: '64x64',
  pixels_per_token: 8,
  defaults: { num_inference_steps: 12, guidance_scale: 2, negative_prompt: '' },
  limits: { n: 10, num_inference_steps: 200, guidance_scale: 30, seed: Number.MAX_SAFE_INTEGER, prompt_characters: 50 },
  styles: [{ name: 'Default', suffix: '' }, { name: 'Flat', suffix: ', flat style' }],
  example_prompts: [],
  accelerations: [
    { mode: 'relaxed', few_step: 1, speedup: 4.52, passed: true },
    { mode: 'off', few_step: 2, speedup: 3, passed: false },
  ],
};
const settings = (change: Partial<Settings> = {}): Settings => ({ ...INITIAL, prompt: 'red apple', seed: 7, ...change });

describe('requestOf', () => {
  it('names the seed always and everything else only where it differs from the defaults', () => {
    expect(requestOf(settings(), MODEL)).toEqual({ prompt: 'red apple', model: 'm', n: 1, seed: 7 });
    expect(requestOf(settings({ style: ', flat style', n: 3, size: '128x64', guidance: 3.5, timesteps: 20, negativePrompt: ' fog ' }), MODEL)).toEqual({
      prompt: 'red apple, flat style', model: 'm', n: 3, seed: 7, size: '128x64', guidance_scale: 3.5, num_inference_steps: 20, negative_prompt: 'fog',
    });
  });

  it('leaves the negative prompt out where there is no guidance: the server would refuse it', () => {
    expect(requestOf(settings({ guidance: 1, negativePrompt: 'fog' }), MODEL)).not.toHaveProperty('negative_prompt');
  });

  it('appends a style once', () => {
    expect(captionOf({ prompt: ' red apple ', style: ', flat style' })).toBe('red apple, flat style');
    expect(captionOf({ prompt: 'red apple, flat style', style: ', flat style' })).toBe('red apple, flat style');
  });
});

describe('ways of drawing', () => {
  it('are those that the model offers, and its own sampler', () => {
    expect(accelerationChoices(MODEL)).toEqual([
      { key: 'relaxed:1', label: 'relaxed drafts, 1-step head · 4.5×' },
      { key: 'off:2', label: '2-step head · 3.0×, looks worse' },
      { key: 'off:0', label: 'the model’s own sampler, no drafts' },
    ]);
    expect(accelerationChoices({ ...MODEL, passes: 4 })[1]?.label).toBe('2-step decoder · 3.0×, looks worse');
    expect(accelerationChoices({ ...MODEL, accelerations: [] })).toEqual([]);
  });

  it('are named in the request only where one was chosen', () => {
    expect(requestOf(settings({ acceleration: 'relaxed:1' }), MODEL).acceleration).toEqual({ mode: 'relaxed', few_step: 1 });
    expect(requestOf(settings(), MODEL)).not.toHaveProperty('acceleration');
  });

  it('come with a link where the model has them', () => {
    const made = settings({ acceleration: 'off:2', isSeedLocked: true });
    expect(settingsOfFragment(fragmentOf(made), MODEL)).toEqual(made);
    expect(settingsOfFragment('#prompt=x&way=exact:4', MODEL)?.acceleration).toBeNull();
  });
});

describe('seeds', () => {
  it('counts up as the server does, also past the largest one', () => {
    expect(seedsOf({ seed: 7, n: 3 })).toEqual([7, 8, 9]);
    expect(seedsOf({ seed: Number.MAX_SAFE_INTEGER, n: 2 })).toEqual([Number.MAX_SAFE_INTEGER, 0]);
  });

  it('rolls integers', () => {
    expect([rollSeed(() => 0), rollSeed(() => 0.9999999)]).toEqual([0, 999_999]);
  });
});

describe('links', () => {
  it('bring back what they were made from', () => {
    for (const made of [settings({ isSeedLocked: true }), settings({ prompt: "a & b = 'c' #1 ü\n", style: ', flat style', n: 4, size: '128x64', guidance: 2.5, timesteps: 30, negativePrompt: 'fog', isSeedLocked: true })]) {
      expect(settingsOfFragment(`#${fragmentOf(made)}`, MODEL)).toEqual(made);
    }
  });

  it('name their model unless it is the server’s first, which others do not stand in for', () => {
    expect(fragmentOf(settings())).not.toContain('model');
    const made = settings({ model: 'm', isSeedLocked: true });
    const link = `#${fragmentOf(made)}`;
    expect(modelOfFragment(link)).toBe('m');
    expect(settingsOfFragment(link, MODEL)).toEqual(made);
    expect(settingsOfFragment(link, { ...MODEL, id: 'other' })?.model).toBeNull();
    expect(modelOfFragment('#prompt=x')).toBeNull();
  });

  it('say nothing without a prompt, and what the model does not take stays at its default', () => {
    expect(settingsOfFragment('', MODEL)).toBeNull();
    expect(settingsOfFragment('#stage', MODEL)).toBeNull();
    expect(settingsOfFragment('#prompt=x&style=oil&seed=-1&n=99&size=1x1&guidance=1e9&timesteps=2.5', MODEL)).toEqual(settings({ prompt: 'x', seed: 0 }));
    expect(settingsOfFragment(`#prompt=${'x'.repeat(80)}`, MODEL)?.prompt).toHaveLength(50);
  });
});

describe('tokensOf', () => {
  it('is the token grid of a size', () => {
    expect(tokensOf('128x64', 8)).toEqual({ columns: 16, rows: 8, width: 128, height: 64 });
  });
});

describe('curlOf', () => {
  it('survives quotes in a shell', () => {
    const command = curlOf({ prompt: "it's; $(rm -rf /)", seed: 7 }, 'http://localhost:8080');
    expect(command).toContain(String.raw`-d '{"prompt":"it'\''s; $(rm -rf /)","seed":7}'`);
    expect(command).toContain('http://localhost:8080/v1/images/generations');
  });
});
