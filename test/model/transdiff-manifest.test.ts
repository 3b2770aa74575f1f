import { afterEach, describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.js';
import { readManifest, readNextStepManifest } from '../../src/model/manifest.js';
import type { TransDiffManifest } from '../../src/model/transdiff-manifest.js';
import { writeClassFolder, type ClassFolderOptions } from '../support/class-folder.js';
import { refusalOf } from '../support/refusal.js';

let remove: () => void = () => undefined;
afterEach(() => {
  remove();
});

function folder(options: ClassFolderOptions = {}): string {
  const written = writeClassFolder(options);
  remove = written.remove;
  return written.directory;
}

function read(options: ClassFolderOptions = {}): TransDiffManifest {
  const manifest = readManifest(folder(options));
  if (manifest.family !== 'transdiff') throw new Error(manifest.family);
  return manifest;
}

const problem = (options: ClassFolderOptions): string => refusalOf(() => readManifest(folder(options)));

describe('readManifest of a TransDiff folder', () => {
  it('says what a request is checked against', () => {
    expect(read()).toMatchObject({
      id: 'zoo',
      promptMode: 'class',
      passes: 4,
      pixelFactor: 8,
      latentPatchSize: 1,
      latentChannels: 16,
      scalingFactor: 0.2325,
      shiftFactor: 0,
      latentRgb: null,
      captions: { styles: [], examples: ['dog', 'red apple'] },
      sizes: [{ width: 64, height: 64 }],
      sampling: { sampler: 'maruyama', timesteps: 20, lowTimesteps: 10, guidanceScale: 1.3, driftScale: 0.9, noiseScale: 0.95 },
    });
  });

  it('draws in one pass without references, and in the released geometry where the file does not say', () => {
    const { passes, pixelFactor, sizes } = read({ config: { architecture: 'transdiff', image_size: 512, vae_ch_mult: undefined } });
    expect([passes, pixelFactor, sizes]).toEqual([1, 16, [{ width: 512, height: 512 }]]);
  });

  it('takes sampling.json over config.json, key by key', () => {
    expect(read({ sampling: { timesteps: 12, low_timesteps: 5, scale_1: 1 } }).sampling).toMatchObject({ timesteps: 12, lowTimesteps: 5, guidanceScale: 1.3, driftScale: 0.9, noiseScale: 1 });
    expect(read({ config: { sampling: undefined } }).sampling).toMatchObject({ timesteps: 100, guidanceScale: 1, driftScale: 1, noiseScale: 1 });
  });

  it('knows classes by their index where there is no classes.json', () => {
    expect(read({ classes: null }).classes.classes.map(({ name }) => name)).toEqual(['class 0', 'class 1', 'class 2', 'class 3']);
  });

  it.each<[ClassFolderOptions, RegExp]>([
    [{ config: { image_size: '64' } }, /config\.json: "image_size"/],
    [{ config: { image_size: 60 } }, /size 60x60 is no multiple of 8/],
    [{ config: { image_size: 56 } }, /odd number of latent pixels/],
    [{ config: { num_classes: 0 } }, /"num_classes"/],
    [{ config: { num_classes: 5 } }, /classes\.json: "classes" has 4 entries, the model 5 classes/],
    [{ config: { num_classes: 5e9 } }, /"num_classes" must be an integer of at least 1 and at most 1048576/],
    [{ config: { sampling: { steps: 1001 } } }, /config\.json: "steps" .*at most 1000/],
    [{ sampling: { scale_1: 11 } }, /sampling\.json: "scale_1" .*at most 10/],
    [{ config: { ar_steps: 0 } }, /"ar_steps"/],
    [{ config: { vae_ch_mult: 4 } }, /"vae_ch_mult"/],
    [{ config: { sampling: { cfg: 0.5 } } }, /config\.json: "cfg"/],
    [{ sampling: { sampler: 'B' } }, /sampling\.json: "sampler" must be one of maruyama/],
    [{ sampling: { timesteps: 8, low_timesteps: 9 } }, /"low_timesteps" 9 is more/],
  ])('refuses %j', (options, message) => {
    expect(problem(options)).toMatch(message);
  });

  it('is told from a folder that works with captions', () => {
    const directory = folder();
    expect(() => readNextStepManifest(directory)).toThrow(EngineError);
  });
});
