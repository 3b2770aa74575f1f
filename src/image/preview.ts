import type { LatentRgb } from '../model/latent-rgb.js';
import type { RgbImage } from './encode.js';

/** What stands for the rows that are not drawn yet: middle grey. */
export const NEUTRAL = 128;

/** A partial picture as it is shown: the decoder's pixels of the finished rows, NEUTRAL below. `rows` are pixel rows. */
export function paintUnfinished({ width, height, rgb }: RgbImage, rows: number): RgbImage {
  return { width, height, rgb: Uint8Array.from(rgb).fill(NEUTRAL, rows * width * 3) };
}

/**
 * Finished token rows as RGB, one pixel per latent pixel. It runs on the event loop: a row is 3 * C multiply-adds for
 * each of its latent pixels, 1,500 for the bundled model and 6,100 at 512 px, which is microseconds; the native side
 * would spend more on being asked.
 *
 * `tokens`: (rows * gridWidth, C * p²), raster order; element c * p² + a * p + b is channel c of latent pixel (a, b).
 */
export function stripOf(tokens: Float32Array, gridWidth: number, patch: number, { weights, bias }: LatentRgb): RgbImage {
  const tokenSize = weights[0]!.length * patch * patch;
  const rows = tokens.length / (tokenSize * gridWidth);
  if (!Number.isInteger(rows)) throw new RangeError(`${tokens.length} numbers are no whole rows of ${gridWidth} tokens of ${tokenSize}`);
  const width = gridWidth * patch;
  const height = rows * patch;
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const token = Math.floor(y / patch) * gridWidth + Math.floor(x / patch);
      const first = token * tokenSize + (y % patch) * patch + (x % patch);
      for (let colour = 0; colour < 3; colour += 1) {
        let sum = bias[colour]!;
        for (const [channel, weight] of weights[colour]!.entries()) sum += weight * tokens[first + channel * patch * patch]!;
        rgb[(y * width + x) * 3 + colour] = Math.round(255 * Math.min(1, Math.max(0, sum)));
      }
    }
  }
  return { width, height, rgb };
}
