import { writeFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readManifest, type ModelManifest } from '../../src/model/manifest.js';
import { writeModelFolder, type FolderOptions } from '../support/model-folder.js';
import { refusalOf } from '../support/refusal.js';

let remove: () => void = () => undefined;

afterEach(() => {
  remove();
});

function folder(options: FolderOptions = {}): string {
  const written = writeModelFolder(options);
  remove = written.remove;
  return written.directory;
}

const read = (options: FolderOptions = {}): ModelManifest => readManifest(folder(options));

const problem = (directory: string): string => refusalOf(() => readManifest(directory));

describe('readManifest, broken folders', () => {
  it('names the missing or broken file', () => {
    expect(problem('/nowhere/at/all')).toContain('/nowhere/at/all/config.json');
    const directory = folder();
    writeFileSync(join(directory, 'config.json'), '{');
    expect(problem(directory)).toMatch(/config\.json: is not JSON/);
    writeFileSync(join(directory, 'config.json'), '[]');
    expect(problem(directory)).toMatch(/must be a JSON object/);
  });

  it('names the missing VAE config', () => {
    const directory = folder();
    rmSync(join(directory, 'vae', 'config.json'));
    expect(problem(directory)).toMatch(/vae\/config\.json: is missing/);
  });

  it('refuses another family by name', () => {
    expect(problem(folder({ config: { model_type: 'transdiff' } }))).toContain('"transdiff"');
  });

  it.each([
    [{ timesteps: 0 }, '"timesteps"'],
    [{ sampler: 'D' }, '"sampler"'],
    [{ guidance_scale: 'high' }, '"guidance_scale"'],
    [{ sizes: ['64'] }, '"sizes"'],
    [{ sizes: [] }, '"sizes"'],
    [{ sizes: ['65x64'] }, '65x64'],
  ])('refuses sampling.json with %j', (sampling, key) => {
    expect(problem(folder({ sampling }))).toContain(key);
  });
});

describe('readManifest', () => {
  it('reads sizes, pixel factor and defaults', () => {
    const manifest = read({ sampling: { sizes: ['64x64', '96x32'], negative_prompt: 'blurry' } });
    expect(manifest).toMatchObject({
      id: 'tiny',
      pixelFactor: 16,
      sizes: [{ width: 64, height: 64 }, { width: 96, height: 32 }],
      sampling: { sampler: 'B', timesteps: 8, lowTimesteps: 4, negativePrompt: 'blurry', useNorm: true },
      scalingFactor: 1.25,
      shiftFactor: 0.125,
    });
  });

  it('takes the model card where there is no sampling.json', () => {
    const manifest = read({ sampling: null });
    expect(manifest.sampling).toMatchObject({ sampler: 'B', guidanceScale: 7.5, timesteps: 28, timestepShift: 1, useNorm: false });
    expect(manifest.sizes[0]).toEqual({ width: 512, height: 512 });
    expect(manifest.sizes).toContainEqual({ width: 1024, height: 256 });
  });

  it('accepts both key spellings, the first winning', () => {
    const other = { latent_patch_size: undefined, latent_channels: undefined, patch_size: 1, num_channels: 8 };
    expect(read({ config: other })).toMatchObject({ latentPatchSize: 1, latentChannels: 8, pixelFactor: 8 });
    remove();
    expect(read({ config: { ...other, latent_patch_size: 2 } })).toMatchObject({ latentPatchSize: 2, pixelFactor: 16 });
  });

  it('prefers factors 1 and 0 where the VAE does not say', () => {
    expect(read({ vae: { scaling_factor: undefined, shift_factor: undefined } })).toMatchObject({ scalingFactor: 1, shiftFactor: 0 });
  });
});
