import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prepareText, seedsFrom } from '../../src/gateway/image-request.js';
import type { ImagesRequest } from '../../src/gateway/schemas.js';
import { openTextModel, type TextModel } from '../../src/model/served-model.js';
import { writeModelFolder } from '../support/model-folder.js';

let model: TextModel;
let remove: () => void;

beforeAll(() => {
  const folder = writeModelFolder({ config: { max_position_embeddings: 64 }, sampling: { sampler: 'A', negative_prompt: 'ugly' } });
  model = openTextModel(folder.directory);
  remove = folder.remove;
});

afterAll(() => {
  remove();
});

const prepare = (body: Partial<ImagesRequest>) => prepareText({ prompt: 'x', ...body }, model, () => 77);

describe('prepareText', () => {
  it('refuses rows longer than the model can see, whichever row it is', () => {
    // 64 positions: 16 image tokens, 5 of prefix, so 43 of text.
    expect(prepare({ prompt: 'a'.repeat(43) }).promptRows[0]).toHaveLength(48);
    for (const [param, body] of Object.entries({ prompt: { prompt: 'a'.repeat(44) }, negative_prompt: { negative_prompt: 'a'.repeat(44) } })) {
      expect(() => prepare(body)).toThrow(expect.objectContaining({ code: 'string_above_max_length', param }));
    }
  });

  it('refuses one timestep of the samplers that need two', () => {
    expect(() => prepare({ num_inference_steps: 1 })).toThrow(expect.objectContaining({ param: 'num_inference_steps' }));
    const { manifest } = model;
    const alike = { ...model, manifest: { ...manifest, sampling: { ...manifest.sampling, sampler: 'C-sde' as const } } };
    expect(() => prepareText({ prompt: 'x', num_inference_steps: 1 }, alike, () => 0)).toThrow(expect.objectContaining({ param: 'num_inference_steps' }));
  });

  it('fills every default in', () => {
    expect(prepare({})).toMatchObject({ model: 'tiny', seeds: [77], timesteps: 8, guidanceScale: 2.5, sampler: 'A', useNorm: true, format: 'png', compression: 100 });
    // The model's own negative prompt, unless the request says otherwise; none without guidance.
    expect(prepare({}).promptRows[1]!.slice(0, 4)).toEqual([...'ugly'].map((c) => c.charCodeAt(0)));
    expect(prepare({ negative_prompt: '' }).promptRows[1]).toHaveLength(5);
    expect(prepare({ guidance_scale: 1 }).promptRows).toHaveLength(1);
  });
});

describe('seedsFrom', () => {
  it('counts up, and wraps at 2^53 exactly', () => {
    expect(seedsFrom(5, 3)).toEqual([5, 6, 7]);
    expect(seedsFrom(2 ** 53 - 2, 4)).toEqual([2 ** 53 - 2, 2 ** 53 - 1, 0, 1]);
  });
});
