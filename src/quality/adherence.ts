import type { RgbImage } from '../image/encode.js';
import type { QualityPack } from './pack.js';

/** A picture counts when the asked base is among the bases of this many nearest thumbnails. */
const NEAREST = 5;

/** For each concept: does its picture, seen at thumbnail size, lie near a training picture of the asked base? */
export function adherence(pack: QualityPack, pictures: readonly RgbImage[]): boolean[] {
  return pictures.map((picture, i) => {
    const small = shrink(picture, pack.thumbnailSize);
    return nearestTiles(small, pack.thumbnails, NEAREST).some((tile) => pack.bases[tile] === pack.concepts[i]?.base);
  });
}

/** Averages square cells, rounded half to even as numpy does. */
export function shrink({ width, height, rgb }: RgbImage, size: number): Uint8Array {
  const cellWidth = width / size;
  const cellHeight = height / size;
  if (!Number.isInteger(cellWidth) || !Number.isInteger(cellHeight)) throw new Error(`${width}x${height} does not shrink to ${size}x${size}`);
  const sums = new Float64Array(size * size * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const cell = Math.floor(y / cellHeight) * size + Math.floor(x / cellWidth);
      for (let c = 0; c < 3; c += 1) sums[cell * 3 + c]! += rgb[(y * width + x) * 3 + c]!;
    }
  }
  return Uint8Array.from(sums, (sum) => roundHalfEven(sum / (cellWidth * cellHeight)));
}

export function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Indices of the nearest tiles in L2; of equal distances the first, as a stable sort gives. */
export function nearestTiles(picture: Uint8Array, tiles: Uint8Array, count: number): number[] {
  const size = picture.length;
  const best: { tile: number; distance: number }[] = [];
  for (let tile = 0; tile * size < tiles.length; tile += 1) {
    let distance = 0;
    for (let i = 0; i < size; i += 1) distance += (picture[i]! - tiles[tile * size + i]!) ** 2;
    const at = best.findIndex((entry) => distance < entry.distance);
    best.splice(at < 0 ? best.length : at, 0, { tile, distance });
    if (best.length > count) best.pop();
  }
  return best.map((entry) => entry.tile);
}
