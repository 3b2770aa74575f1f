import { describe, expect, it } from 'vitest';
import { NEUTRAL, paintUnfinished, stripOf } from '../../src/image/preview.js';

describe('paintUnfinished', () => {
  it('keeps the finished rows, paints the rest, and leaves its input alone', () => {
    const rgb = Uint8Array.from({ length: 2 * 3 * 3 }, (_, i) => i);
    expect([...paintUnfinished({ width: 2, height: 3, rgb }, 2).rgb]).toEqual([...rgb.slice(0, 12), ...Array<number>(6).fill(NEUTRAL)]);
    expect([...paintUnfinished({ width: 2, height: 3, rgb }, 0).rgb]).toEqual(Array<number>(18).fill(NEUTRAL));
    expect(paintUnfinished({ width: 2, height: 3, rgb }, 3).rgb).toEqual(rgb);
    expect([...rgb.slice(12)]).toEqual([12, 13, 14, 15, 16, 17]);
  });
});

describe('stripOf', () => {
  it('puts the numbers of a token where they stand in the latent', () => {
    // Two channels, patch 2, one row of 3 tokens: token t holds c * 4 + a * 2 + b at latent row a, column 2 t + b.
    const tokens = Float32Array.from({ length: 3 * 8 }, (_, i) => (i % 8 < 4 ? i : 0) / 255);
    const strip = stripOf(tokens, 3, 2, { weights: [[1, 0], [0, 1], [-1, 0]], bias: [0, 0.2, 1] });
    expect([strip.width, strip.height]).toEqual([6, 2]);
    const red = [0, 1, 8, 9, 16, 17, 2, 3, 10, 11, 18, 19];
    expect([...strip.rgb]).toEqual(red.flatMap((value) => [value, 51, 255 - value]));
  });

  it('takes several rows at once, and the same as one by one', () => {
    const map = { weights: [[0.3, -0.1], [0.2, 0.4], [-0.7, 0.5]], bias: [0.5, 0.4, 0.6] };
    const tokens = Float32Array.from({ length: 2 * 3 * 8 }, (_, i) => Math.sin(i));
    const both = stripOf(tokens, 3, 2, map);
    const single = [0, 1].map((row) => [...stripOf(tokens.slice(row * 24, row * 24 + 24), 3, 2, map).rgb]);
    expect(both.height).toBe(4);
    expect([...both.rgb]).toEqual(single.flat());
  });

  it('keeps colours in range, and refuses a part of a row', () => {
    const strip = stripOf(Float32Array.of(9, -9, Number.NaN), 3, 1, { weights: [[1], [1], [1]], bias: [0, 0, 0] });
    expect([...strip.rgb]).toEqual([255, 255, 255, 0, 0, 0, 0, 0, 0]);
    expect(() => stripOf(new Float32Array(5), 3, 2, { weights: [[1], [1], [1]], bias: [0, 0, 0] })).toThrow(RangeError);
  });
});
