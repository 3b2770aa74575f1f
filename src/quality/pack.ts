import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import type { Tensor } from '../engine/native-types.js';
import { readSafetensors } from '../cli/safetensors.js';

export interface Prompt {
  prompt: string;
  seed: number;
}

export interface Concept extends Prompt {
  /** The base concept that the picture should show. */
  base: string;
}

/** `quality/` of a model folder: all that is needed to score pictures (its README says how it was made). */
export interface QualityPack {
  concepts: readonly Concept[];
  fdPrompts: readonly Prompt[];
  /** Side of a thumbnail in pixels. */
  thumbnailSize: number;
  /** RGB, one after the other, in the order of `bases`. */
  thumbnails: Uint8Array;
  bases: readonly string[];
  /** Feature network, and `mean` and `covariance` of the reference pictures. */
  features: ReadonlyMap<string, Tensor>;
}

export async function readQualityPack(modelDirectory: string): Promise<QualityPack> {
  const folder = join(modelDirectory, 'quality');
  if (!existsSync(folder)) throw new Error(`${folder} is missing: the model has no quality pack`);
  const json = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'));
  const { bases, size } = json('thumbnails.json') as { bases: string[]; size: number };
  return {
    concepts: json('concepts.json') as Concept[],
    fdPrompts: json('fd_prompts.json') as Prompt[],
    thumbnailSize: size,
    thumbnails: await readTiles(join(folder, 'thumbnails.png'), size, bases.length),
    bases,
    features: readSafetensors(join(folder, 'features.safetensors')),
  };
}

/** A sheet of square tiles, row by row, to one tile after the other. */
async function readTiles(path: string, size: number, count: number): Promise<Uint8Array> {
  const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const columns = Math.floor(info.width / size);
  const rowBytes = size * 3;
  const tiles = new Uint8Array(count * size * rowBytes);
  for (let tile = 0; tile < count; tile += 1) {
    const left = (tile % columns) * size;
    const top = Math.floor(tile / columns) * size;
    for (let y = 0; y < size; y += 1) {
      const from = ((top + y) * info.width + left) * 3;
      tiles.set(data.subarray(from, from + rowBytes), (tile * size + y) * rowBytes);
    }
  }
  return tiles;
}
