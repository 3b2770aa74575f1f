import { InvalidModelFile, readEnum, readObject } from './json-file.js';

/**
 * What a latent pixel looks like without a decoder: rgb = weights · latent + bias, by `train/preview.py`. The latent is
 * the engine's own (drawn tokens, put in their places), before the decoder's scaling and shift.
 */
export interface LatentRgb {
  /** 3 rows (red, green, blue) of one weight per latent channel. */
  readonly weights: readonly (readonly number[])[];
  /** Red, green, blue. */
  readonly bias: readonly number[];
}

/** `preview.json` of a model folder. Colours are those of a screen (sRGB), 0 … 1. */
export function parseLatentRgb(file: string, value: unknown, latentChannels: number): LatentRgb {
  const json = readObject(file, value);
  readEnum(file, ['RGB in 0..1'])('range', json['range']);
  const rows = json['latent_rgb'];
  if (!Array.isArray(rows) || rows.length !== 3) throw new InvalidModelFile(file, '"latent_rgb" must be 3 rows: red, green, blue');
  return {
    weights: rows.map((row, i) => readNumbers(file, `latent_rgb[${i}]`, row, latentChannels)),
    bias: readNumbers(file, 'bias', json['bias'], 3),
  };
}

function readNumbers(file: string, key: string, value: unknown, count: number): number[] {
  const isRight = Array.isArray(value) && value.length === count && value.every((entry) => Number.isFinite(entry));
  if (!isRight) throw new InvalidModelFile(file, `"${key}" must be ${count} numbers`);
  return value as number[];
}
