import { join } from 'node:path';
import { ACCELERATOR_FOLDER, accelerationOf, CALIBRATION_FILE, modeKeyOf, readCalibration, type Calibration, type DefaultAcceleration } from './accelerator.js';
import { InvalidModelFile } from './json-file.js';
import { readManifest, type ModelManifest } from './manifest.js';
import { loadTokenizer, type PromptTokenizer } from './tokenizer.js';

/** What the gateway knows of a model: enough to check a request and to turn its text into ids. No engine. */
export interface ServedModel {
  manifest: ModelManifest;
  tokenizer: PromptTokenizer;
  /** Of its accelerator; null: it has none, and is drawn by its own sampler only. */
  calibration: Calibration | null;
  /** For requests that do not say. */
  acceleration: DefaultAcceleration;
  /** Unix seconds, for GET /v1/models. */
  created: number;
}

export interface OpenOptions {
  acceleration?: DefaultAcceleration;
  now?: () => number;
}

/** Refuses, with what is wrong, a folder that could not be served as asked. */
export function openModelFolder(directory: string, { acceleration = 'auto', now = Date.now }: OpenOptions = {}): ServedModel {
  const manifest = readManifest(directory);
  const calibration = readCalibration(manifest.directory, manifest.sampling);
  const key = modeKeyOf(accelerationOf(acceleration, calibration));
  if (key !== null && calibration?.modes[key] === undefined) {
    throw new InvalidModelFile(join(manifest.directory, ACCELERATOR_FOLDER, CALIBRATION_FILE), `has no mode "${key}", which --acceleration names`);
  }
  return { manifest, tokenizer: loadTokenizer(manifest), calibration, acceleration, created: Math.floor(now() / 1000) };
}
