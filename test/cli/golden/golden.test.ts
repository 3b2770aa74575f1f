import { describe, expect, it } from 'vitest';
import { compare } from '../../../src/cli/golden/compare.js';
import { patchify, unpatchify } from '../../../src/cli/golden/layout.js';

describe('compare', () => {
  const expected = { data: Float32Array.of(4, -2), shape: [2] };

  it('fails on another size and on NaN', () => {
    expect(compare(Float32Array.of(4), expected, 1)).toEqual({ error: Infinity, passed: false });
    expect(compare(Float32Array.of(4, NaN), expected, 1)).toEqual({ error: Infinity, passed: false });
    expect(compare(Float32Array.of(NaN, -2), expected, 1).passed).toBe(false);
  });

  it('is relative to the largest expected number, but at least 1', () => {
    expect(compare(Float32Array.of(4, -1), expected, 0.25)).toEqual({ error: 0.25, passed: true });
    expect(compare(Float32Array.of(4, -1), expected, 0.2).passed).toBe(false);
    expect(compare(Float32Array.of(0.5), { data: Float32Array.of(0.25), shape: [1] }, 1).error).toBe(0.25);
  });
});

describe('token layout', () => {
  const layout = { channels: 2, patch: 2, height: 2, width: 3 };

  it('puts (channel, row, column) of a token where the specification says', () => {
    const tokens = new Float32Array(2 * 3 * 8);
    // Token (1, 2), channel 1, row 0, column 1 of its patch.
    tokens[(1 * 3 + 2) * 8 + 1 * 4 + 0 * 2 + 1] = 1;
    const latent = unpatchify(tokens, layout);
    expect(latent.shape).toEqual([1, 2, 4, 6]);
    expect(latent.data.indexOf(1)).toBe(1 * 24 + 2 * 6 + 5);
  });

  it('is undone by patchify', () => {
    const tokens = Float32Array.from({ length: 48 }, (_, i) => i);
    expect(patchify(unpatchify(tokens, layout).data, layout)).toEqual(tokens);
  });
});
