import { describe, expect, it } from 'vitest';
import type { Model } from '../../../web/src/protocol/http.js';
import { drawnBy, drawsClasses, keyOf, modelFor, modelInWords, partialImagesOf } from '../../../web/src/state/models.js';

/** As servers of before describe one. */
const OLD: Model = {
  id: 'captions',
  sizes: ['64x64'],
  default_size: '64x64',
  pixels_per_token: 8,
  defaults: { num_inference_steps: 8, guidance_scale: 2, negative_prompt: '' },
  limits: { n: 10, num_inference_steps: 200, guidance_scale: 30, seed: Number.MAX_SAFE_INTEGER, prompt_characters: 500 },
  styles: [],
  example_prompts: [],
};
const CAPTIONS: Model = { ...OLD, prompt_mode: 'text', row_previews: true };
const CLASSES: Model = { ...CAPTIONS, id: 'zoo', prompt_mode: 'class', num_classes: 12, passes: 4, row_previews: false };
const MODELS: readonly [Model, ...Model[]] = [CAPTIONS, CLASSES];

describe('several models', () => {
  it('are named by id, the first by nothing; what is not there is the first', () => {
    expect(MODELS.map((model) => keyOf(MODELS, model))).toEqual([null, 'zoo']);
    expect(['zoo', 'captions', null, undefined, 'gone'].map((id) => modelFor(MODELS, id).id)).toEqual(['zoo', 'captions', 'captions', 'captions', 'captions']);
  });

  it('are told apart by what may be asked of them', () => {
    expect([CAPTIONS, CLASSES, OLD].map(drawsClasses)).toEqual([false, true, false]);
    expect(MODELS.map(modelInWords)).toEqual(['captions · captions', 'zoo · 12 classes']);
  });
});

describe('drawnBy', () => {
  it('is a grid of tokens, or passes over the whole picture', () => {
    expect(drawnBy(CAPTIONS, '128x64')).toEqual({ width: 128, height: 64, columns: 16, rows: 8, unit: 'token', count: 128 });
    expect(drawnBy(CLASSES, '64x64')).toEqual({ width: 64, height: 64, columns: 1, rows: 1, unit: 'pass', count: 4 });
  });
});

describe('partialImagesOf', () => {
  it('asks for whole pictures only where there are no rows to show', () => {
    expect([CAPTIONS, CLASSES, OLD].map(partialImagesOf)).toEqual([0, 3, 0]);
  });
});
