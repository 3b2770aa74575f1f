import { describe, expect, it } from 'vitest';
import { adherence, nearestTiles, roundHalfEven, shrink } from '../../src/quality/adherence.js';
import type { QualityPack } from '../../src/quality/pack.js';

const flat = (value: number, side = 4): { width: number; height: number; rgb: Uint8Array } => ({ width: side, height: side, rgb: new Uint8Array(side * side * 3).fill(value) });

describe('adherence', () => {
  it('refuses a picture that is no multiple of the thumbnail', () => {
    expect(() => shrink(flat(0, 5), 2)).toThrow(/5x5/);
  });

  it('rounds halves to even', () => {
    expect([0.5, 1.5, 2.5, 2.4, 3.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 4]);
  });

  it('averages cells', () => {
    const picture = flat(10);
    picture.rgb[0] = 250; // red of the first pixel of the first cell: (250 + 30) / 4
    expect([...shrink(picture, 2)].slice(0, 4)).toEqual([70, 10, 10, 10]);
  });

  it('keeps the first of equal distances', () => {
    const tiles = Uint8Array.of(5, 9, 1, 5, 7);
    expect(nearestTiles(Uint8Array.of(6), tiles, 3)).toEqual([0, 3, 4]);
  });

  it('counts a picture whose base is among the five nearest', () => {
    const grey = [0, 50, 100, 150, 200, 250, 255];
    const pack: QualityPack = {
      concepts: [{ prompt: 'a', seed: 0, base: 'far' }, { prompt: 'b', seed: 1, base: 'near' }],
      fdPrompts: [],
      thumbnailSize: 1,
      thumbnails: Uint8Array.from(grey.flatMap((value) => [value, value, value])),
      bases: ['near', 'x', 'x', 'x', 'x', 'far', 'far'],
      features: new Map(),
    };
    expect(adherence(pack, [flat(0), flat(0)])).toEqual([false, true]);
  });
});
