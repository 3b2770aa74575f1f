import { InvalidModelFile } from './json-file.js';

/** Pixels. On the wire `WIDTHxHEIGHT`. */
export interface Size {
  width: number;
  height: number;
}

/** Image tokens: height first, as everywhere in the model's own files. */
export interface Grid {
  height: number;
  width: number;
}

export function parseSize(text: string): Size | null {
  const match = /^([1-9]\d{0,4})x([1-9]\d{0,4})$/.exec(text);
  return match === null ? null : { width: Number(match[1]), height: Number(match[2]) };
}

export function formatSize({ width, height }: Size): string {
  return `${width}x${height}`;
}

/** The token grid of a picture, or null where the size is no multiple of a token's side. */
export function gridOf({ width, height }: Size, pixelFactor: number): Grid | null {
  if (width % pixelFactor !== 0 || height % pixelFactor !== 0) return null;
  return { height: height / pixelFactor, width: width / pixelFactor };
}

/** Aspect-ratio buckets of the released checkpoints at 256 px, as (height, width) in tokens (docs/nextstep.md 1.1). */
const BUCKETS_256: readonly (readonly [number, number])[] = [
  [16, 16], [8, 32], [9, 28], [10, 25], [11, 23], [12, 21], [13, 19], [14, 18], [15, 17],
  [17, 15], [18, 14], [19, 13], [21, 12], [23, 11], [25, 10], [28, 9], [32, 8],
];

/** What a folder without a list of its own draws: the trained buckets at 512 px, square first. */
export function releasedSizes(pixelFactor: number): readonly Size[] {
  return BUCKETS_256.map(([height, width]) => ({ width: 2 * width * pixelFactor, height: 2 * height * pixelFactor }));
}

/** A folder's list, every entry of which must fit its model; `file` says them. */
export function checkedSizes(file: string, sizes: readonly Size[], pixelFactor: number): readonly [Size, ...Size[]] {
  const wrong = sizes.find((size) => gridOf(size, pixelFactor) === null);
  if (wrong !== undefined) throw new InvalidModelFile(file, `size ${formatSize(wrong)} is no multiple of ${pixelFactor} pixels`);
  const [native, ...others] = sizes;
  if (native === undefined) throw new InvalidModelFile(file, '"sizes" is empty');
  return [native, ...others];
}
