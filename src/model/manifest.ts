import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { NO_CAPTIONS, parseCaptions, type Captions } from './captions.js';
import { InvalidModelFile, readJsonFile, readNumber, readObject, readOptional, type JsonObject } from './json-file.js';
import { parseLatentRgb, type LatentRgb } from './latent-rgb.js';
import { MODEL_CARD, parseSampling, type SamplingDefaults } from './sampling.js';
import { formatSize, gridOf, releasedSizes, type Size } from './sizes.js';

/** A model folder as far as TypeScript needs it: what to ask for, not how it is computed. */
export interface ModelManifest {
  /** Name on the wire: that of the folder. */
  id: string;
  directory: string;
  family: 'nextstep';
  vocabSize: number;
  maxPositions: number;
  boiTokenId: number;
  imagePlaceholderId: number;
  latentChannels: number;
  latentPatchSize: number;
  /** Pixels per side of one image token. */
  pixelFactor: number;
  /** decoder input = latent / scalingFactor + shiftFactor. */
  scalingFactor: number;
  shiftFactor: number;
  sampling: SamplingDefaults;
  /** From preview.json; null: the folder has none, and the model draws without row previews. */
  latentRgb: LatentRgb | null;
  captions: Captions;
  /** Native size first. */
  sizes: readonly [Size, ...Size[]];
}

/** Reads and checks the folder's JSON files; weights are the engine's business. */
export function readManifest(directory: string): ModelManifest {
  const root = resolve(directory);
  const configPath = join(root, 'config.json');
  if (!existsSync(configPath)) throw new InvalidModelFile(configPath, 'is missing; is this a model folder?');
  const config = readObject(configPath, readJsonFile(configPath));
  checkFamily(configPath, config);
  const integer = readNumber(configPath, { min: 0, integer: true });
  // Two spellings exist in released folders (docs/nextstep.md 2.1); the left one wins.
  const latentPatchSize = readEither(config, 'latent_patch_size', 'patch_size', 2, integer);
  const vae = readVae(root, config);
  const sampling = readSampling(root);
  const latentChannels = readEither(config, 'latent_channels', 'num_channels', 16, integer);
  const pixelFactor = vae.downFactor * latentPatchSize;
  return {
    id: basename(root),
    directory: root,
    family: 'nextstep',
    vocabSize: readOptional(config, 'vocab_size', 152064, integer),
    maxPositions: readOptional(config, 'max_position_embeddings', 131072, integer),
    boiTokenId: readOptional(config, 'boi', 151667, integer),
    imagePlaceholderId: readOptional(config, 'image_placeholder_id', 151669, integer),
    latentChannels,
    latentPatchSize,
    pixelFactor,
    scalingFactor: vae.scalingFactor,
    shiftFactor: vae.shiftFactor,
    sampling,
    latentRgb: readLatentRgb(root, latentChannels),
    captions: readCaptions(root),
    sizes: checkedSizes(root, sampling.sizes ?? releasedSizes(pixelFactor), pixelFactor),
  };
}

/** Other families have other keys; refusing here gives a sentence instead of a missing tensor. */
function checkFamily(path: string, config: JsonObject): void {
  const type = config['model_type'];
  if (type !== undefined && type !== 'nextstep') {
    throw new InvalidModelFile(path, `model_type ${JSON.stringify(type)} is not supported; supported: "nextstep"`);
  }
}

function readVae(root: string, config: JsonObject): { downFactor: number; scalingFactor: number; shiftFactor: number } {
  const folder = typeof config['vae_name_or_path'] === 'string' ? config['vae_name_or_path'] : 'vae';
  const path = join(root, folder, 'config.json');
  const value = readJsonFile(path);
  if (value === undefined) throw new InvalidModelFile(path, 'is missing');
  const vae = readObject(path, value);
  const levels = vae['ch_mult'] ?? [1, 2, 4, 4];
  if (!Array.isArray(levels) || levels.length === 0) throw new InvalidModelFile(path, '"ch_mult" must be a list');
  const number = readNumber(path, { min: -1e9 });
  return {
    downFactor: 2 ** (levels.length - 1),
    scalingFactor: readOptional(vae, 'scaling_factor', 1, number),
    shiftFactor: readOptional(vae, 'shift_factor', 0, number),
  };
}

function readSampling(root: string): SamplingDefaults {
  const path = join(root, 'sampling.json');
  const value = readJsonFile(path);
  return value === undefined ? MODEL_CARD : parseSampling(path, value);
}

function readLatentRgb(root: string, latentChannels: number): LatentRgb | null {
  const path = join(root, 'preview.json');
  const value = readJsonFile(path);
  return value === undefined ? null : parseLatentRgb(path, value, latentChannels);
}

function readCaptions(root: string): Captions {
  const path = join(root, 'captions.json');
  const value = readJsonFile(path);
  return value === undefined ? NO_CAPTIONS : parseCaptions(path, value);
}

function checkedSizes(root: string, sizes: readonly Size[], pixelFactor: number): readonly [Size, ...Size[]] {
  const wrong = sizes.find((size) => gridOf(size, pixelFactor) === null);
  if (wrong !== undefined) {
    throw new InvalidModelFile(join(root, 'sampling.json'), `size ${formatSize(wrong)} is no multiple of ${pixelFactor} pixels`);
  }
  const [native, ...others] = sizes;
  if (native === undefined) throw new InvalidModelFile(join(root, 'sampling.json'), '"sizes" is empty');
  return [native, ...others];
}

function readEither<T>(config: JsonObject, first: string, second: string, fallback: T, reader: (key: string, value: unknown) => T): T {
  return readOptional(config, first, undefined, reader) ?? readOptional(config, second, fallback, reader);
}
