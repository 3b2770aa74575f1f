import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/engine/native.js';
import { EngineError } from '../../src/errors.js';
import { parseLatentRgb } from '../../src/model/latent-rgb.js';
import { readManifest } from '../../src/model/manifest.js';
import { PREVIEW, writeModelFolder } from '../support/model-folder.js';
import { refusalOf } from '../support/refusal.js';

const problem = (value: unknown): string => refusalOf(() => parseLatentRgb('preview.json', value, 4));

describe('parseLatentRgb', () => {
  it('names what is wrong', () => {
    expect(problem([])).toBe('preview.json: must be a JSON object');
    expect(problem({ ...PREVIEW, range: undefined })).toBe('preview.json: "range" must be one of RGB in 0..1');
    expect(problem({ ...PREVIEW, range: 'RGB in -1..1' })).toMatch(/"range"/);
    expect(problem({ ...PREVIEW, latent_rgb: [[1, 2, 3, 4]] })).toMatch(/"latent_rgb" must be 3 rows/);
    expect(problem({ ...PREVIEW, latent_rgb: [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3]] })).toBe('preview.json: "latent_rgb[2]" must be 4 numbers');
    expect(problem({ ...PREVIEW, latent_rgb: [[1, 2, 3, null], [], []] })).toMatch(/"latent_rgb\[0\]" must be 4 numbers/);
    expect(problem({ ...PREVIEW, bias: [1, 2, 'x'] })).toBe('preview.json: "bias" must be 3 numbers');
    expect(problem({ ...PREVIEW, bias: undefined })).toMatch(/"bias"/);
  });

  it('is null for a folder without the file, and checked by the channels of the model', () => {
    const read = (preview?: unknown): unknown => {
      const folder = writeModelFolder(preview === undefined ? {} : { preview });
      try {
        return readManifest(folder.directory).latentRgb;
      } finally {
        folder.remove();
      }
    };
    expect(read()).toBeNull();
    expect(read(PREVIEW)).toEqual({ weights: PREVIEW.latent_rgb, bias: PREVIEW.bias });
    expect(() => read({ ...PREVIEW, latent_rgb: [[1], [1], [1]] })).toThrow(EngineError);
  });

  it('comes with the bundled model', () => {
    const { latentRgb, latentChannels } = readManifest(join(PACKAGE_ROOT, 'models', 'nextstep-emoji64'));
    expect(latentRgb!.weights.map((row) => row.length)).toEqual([latentChannels, latentChannels, latentChannels]);
  });
});
