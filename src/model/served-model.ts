import { join } from 'node:path';
import { ACCELERATOR_FOLDER, accelerationOf, CALIBRATION_FILE, modeKeyOf, readCalibration, type Calibration, type DefaultAcceleration } from './accelerator.js';
import { ClassResolver } from './class-resolution.js';
import { InvalidModelFile } from './json-file.js';
import { readManifest, type ModelManifest } from './manifest.js';
import type { NextStepManifest } from './nextstep-manifest.js';
import { loadTokenizer, type PromptTokenizer } from './tokenizer.js';
import type { TransDiffManifest } from './transdiff-manifest.js';

/** What the gateway knows of a model: enough to check a request and to turn its text into what is drawn. No engine. */
export type ServedModel = TextModel | ClassModel;

interface Served<M extends ModelManifest> {
  manifest: M;
  /** Of its accelerator; null: it has none, and is drawn by its own sampler only. */
  calibration: Calibration | null;
  /** For requests that do not say. */
  acceleration: DefaultAcceleration;
  /** Unix seconds, for GET /v1/models. */
  created: number;
}

/** Draws what a caption says. */
export interface TextModel extends Served<NextStepManifest> {
  promptMode: 'text';
  tokenizer: PromptTokenizer;
}

/** Draws one of its classes. */
export interface ClassModel extends Served<TransDiffManifest> {
  promptMode: 'class';
  resolver: ClassResolver;
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
  const common = { calibration, acceleration, created: Math.floor(now() / 1000) };
  return manifest.promptMode === 'text'
    ? { promptMode: 'text', manifest, tokenizer: loadTokenizer(manifest), ...common }
    : { promptMode: 'class', manifest, resolver: new ClassResolver(manifest.classes.classes), ...common };
}

/** For what works with captions alone. */
export function openTextModel(directory: string, options: OpenOptions = {}): TextModel {
  const model = openModelFolder(directory, options);
  if (model.promptMode !== 'text') throw new InvalidModelFile(join(model.manifest.directory, 'config.json'), 'is of a model that draws classes; this needs one that draws captions');
  return model;
}
