import { join } from 'node:path';
import { NO_CAPTIONS, parseCaptions, type Captions } from './captions.js';
import { InvalidModelFile, readJsonFile, readNumber, readObject, readOptional, type JsonObject } from './json-file.js';
import { parseLatentRgb, type LatentRgb } from './latent-rgb.js';
import type { CommonManifest, ModelFolder } from './model-folder.js';
import { MODEL_CARD, parseSampling, type SamplingDefaults } from './sampling.js';
import { checkedSizes, releasedSizes } from './sizes.js';

/** A folder of the family that draws a caption token by token (docs/nextstep.md). */
export interface NextStepManifest extends CommonManifest {
  family: 'nextstep';
  promptMode: 'text';
  vocabSize: number;
  maxPositions: number;
  boiTokenId: number;
  imagePlaceholderId: number;
  sampling: SamplingDefaults;
}

export function readNextStep({ id, directory, path, config }: ModelFolder): NextStepManifest {
  checkFamily(path, config);
  const integer = readNumber(path, { min: 0, integer: true });
  // Two spellings exist in released folders (docs/nextstep.md 2.1); the left one wins.
  const latentPatchSize = readEither(config, 'latent_patch_size', 'patch_size', 2, integer);
  const vae = readVae(directory, config);
  const sampling = readSampling(directory);
  const latentChannels = readEither(config, 'latent_channels', 'num_channels', 16, integer);
  const pixelFactor = vae.downFactor * latentPatchSize;
  return {
    id,
    directory,
    family: 'nextstep',
    promptMode: 'text',
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
    latentRgb: readLatentRgb(directory, latentChannels),
    captions: readCaptions(directory),
    sizes: checkedSizes(join(directory, 'sampling.json'), sampling.sizes ?? releasedSizes(pixelFactor), pixelFactor),
  };
}

/** Other families have other keys; refusing here gives a sentence instead of a missing tensor. */
function checkFamily(path: string, config: JsonObject): void {
  const type = config['model_type'];
  if (type !== undefined && type !== 'nextstep') {
    throw new InvalidModelFile(path, `model_type ${JSON.stringify(type)} is not supported; supported: "nextstep", and "architecture": "transdiff" or "transdiff-mrar"`);
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

function readEither<T>(config: JsonObject, first: string, second: string, fallback: T, reader: (key: string, value: unknown) => T): T {
  return readOptional(config, first, undefined, reader) ?? readOptional(config, second, fallback, reader);
}
