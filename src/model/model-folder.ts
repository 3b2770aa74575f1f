import type { Captions } from './captions.js';
import type { JsonObject } from './json-file.js';
import type { LatentRgb } from './latent-rgb.js';
import type { Size } from './sizes.js';

/** A model folder whose config.json is read; which family it is of is not known yet. */
export interface ModelFolder {
  /** That of the folder. */
  id: string;
  directory: string;
  /** Of config.json. */
  path: string;
  config: JsonObject;
}

/** What every family's folder says. */
export interface CommonManifest {
  /** Name on the wire: that of the folder. */
  id: string;
  directory: string;
  latentChannels: number;
  /** Latent pixels per side of one image token. */
  latentPatchSize: number;
  /** Pixels per side of one image token. */
  pixelFactor: number;
  /** decoder input = latent / scalingFactor + shiftFactor. */
  scalingFactor: number;
  shiftFactor: number;
  /** From preview.json; null: the folder has none, and the model draws without row previews. */
  latentRgb: LatentRgb | null;
  captions: Captions;
  /** Native size first. */
  sizes: readonly [Size, ...Size[]];
}
