import { join } from 'node:path';
import { numberedClasses, parseClasses, type ClassList } from './classes.js';
import { InvalidModelFile, readJsonFile, readNumber, readOptional, type JsonObject } from './json-file.js';
import type { CommonManifest, ModelFolder } from './model-folder.js';
import { parsePassSampling, type PassSampling } from './pass-sampling.js';
import { checkedSizes } from './sizes.js';

/** A folder of the family that draws one of its classes in whole passes over the picture (docs/transdiff.md). */
export interface TransDiffManifest extends CommonManifest {
  family: 'transdiff';
  promptMode: 'class';
  classes: ClassList;
  /** Over the whole picture, each with the ones before as reference; 1: the model draws without references. */
  passes: number;
  sampling: PassSampling;
}

const ARCHITECTURES: readonly unknown[] = ['transdiff', 'transdiff-mrar'];

/** Of the released models, whose files do not say. */
const RELEASED = { chMult: [1, 1, 2, 2, 4], passes: 4, vaeScale: 0.2325, latentChannels: 16 };

export function isTransDiff(config: JsonObject): boolean {
  return ARCHITECTURES.includes(config['architecture']);
}

/** As in native/model/transdiff_config.cpp. */
const MAX_CLASSES = 2 ** 20;

export function readTransDiff({ id, directory, path, config }: ModelFolder): TransDiffManifest {
  const integer = readNumber(path, { min: 1, integer: true });
  const pixelFactor = 2 ** (readLevels(path, config) - 1);
  const side = integer('image_size', config['image_size']);
  const isMultiReference = config['architecture'] === 'transdiff-mrar';
  const sizes = checkedSizes(path, [{ width: side, height: side }], pixelFactor);
  // References are read in patches of 2 x 2 latent pixels.
  if (isMultiReference && (side / pixelFactor) % 2 !== 0) throw new InvalidModelFile(path, `"image_size" ${side} is an odd number of latent pixels of ${pixelFactor}`);
  const classes = readClasses(directory, readNumber(path, { min: 1, max: MAX_CLASSES, integer: true })('num_classes', config['num_classes']));
  return {
    id,
    directory,
    family: 'transdiff',
    promptMode: 'class',
    classes,
    passes: isMultiReference ? readOptional(config, 'ar_steps', RELEASED.passes, integer) : 1,
    latentChannels: readOptional(config, 'vae_channels', RELEASED.latentChannels, integer),
    // Every latent pixel is a token of the decoder.
    latentPatchSize: 1,
    pixelFactor,
    scalingFactor: readOptional(config, 'vae_scale', RELEASED.vaeScale, readNumber(path, { min: 1e-6 })),
    shiftFactor: 0,
    sampling: parsePassSampling({ file: path, value: config['sampling'] }, readSampling(directory)),
    // Passes draw the whole picture: there are no finished rows to show.
    latentRgb: null,
    captions: { styles: [], examples: classes.examples },
    sizes,
  };
}

function readLevels(path: string, config: JsonObject): number {
  const levels = config['vae_ch_mult'] ?? RELEASED.chMult;
  if (!Array.isArray(levels) || levels.length === 0) throw new InvalidModelFile(path, '"vae_ch_mult" must be a list');
  return levels.length;
}

function readClasses(directory: string, count: number): ClassList {
  const path = join(directory, 'classes.json');
  const value = readJsonFile(path);
  return value === undefined ? numberedClasses(count) : parseClasses(path, value, count);
}

function readSampling(directory: string): { file: string; value: unknown } {
  const file = join(directory, 'sampling.json');
  return { file, value: readJsonFile(file) };
}
