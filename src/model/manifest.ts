import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { InvalidModelFile, readJsonFile, readObject } from './json-file.js';
import { readNextStep, type NextStepManifest } from './nextstep-manifest.js';
import { isTransDiff, readTransDiff, type TransDiffManifest } from './transdiff-manifest.js';

/** A model folder as far as TypeScript needs it: what to ask for, not how it is computed. */
export type ModelManifest = NextStepManifest | TransDiffManifest;

/** Reads and checks the folder's JSON files; weights are the engine's business. */
export function readManifest(directory: string): ModelManifest {
  const root = resolve(directory);
  const path = join(root, 'config.json');
  if (!existsSync(path)) throw new InvalidModelFile(path, 'is missing; is this a model folder?');
  const config = readObject(path, readJsonFile(path));
  const folder = { id: basename(root), directory: root, path, config };
  return isTransDiff(config) ? readTransDiff(folder) : readNextStep(folder);
}

/** For what works with this family alone. */
export function readNextStepManifest(directory: string): NextStepManifest {
  const manifest = readManifest(directory);
  if (manifest.family !== 'nextstep') throw new InvalidModelFile(join(manifest.directory, 'config.json'), 'is of a TransDiff model; this needs a NextStep one');
  return manifest;
}
