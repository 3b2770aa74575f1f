import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ACCELERATOR_FOLDER } from './accelerator.js';

/** Bytes of all weights in a model's folder, its autoencoder's and its accelerator's; what loading it has to read, within a little. */
export function weightFileBytes(directory: string): number {
  const folders = [directory, join(directory, 'vae'), join(directory, ACCELERATOR_FOLDER)].filter((folder) => existsSync(folder));
  const files = folders.flatMap((folder) => readdirSync(folder).filter((name) => name.endsWith('.safetensors')).map((name) => join(folder, name)));
  return files.reduce((sum, file) => sum + statSync(file).size, 0);
}
