import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/engine/native.js';
import { parseCaptions } from '../../src/model/captions.js';
import { readManifest } from '../../src/model/manifest.js';
import { refusalOf } from '../support/refusal.js';

const problem = (value: unknown): string => refusalOf(() => parseCaptions('captions.json', value));

describe('parseCaptions', () => {
  it('reads styles and examples; both may be absent', () => {
    expect(parseCaptions('f', {})).toEqual({ styles: [], examples: [] });
    const captions = { styles: [{ name: 'Flat', suffix: ', flat style' }], examples: ['a cat'] };
    expect(parseCaptions('f', captions)).toEqual(captions);
  });

  it('names what is wrong', () => {
    expect(problem([])).toMatch(/JSON object/);
    expect(problem({ styles: 'flat' })).toMatch(/"styles" must be a list/);
    expect(problem({ styles: [{ name: 'Flat' }] })).toMatch(/"styles\[0\]\.suffix" must be a string/);
    expect(problem({ examples: ['a cat', 3] })).toMatch(/"examples\[1\]" must be a string/);
  });

  it('describes the bundled model', () => {
    const { captions } = readManifest(join(PACKAGE_ROOT, 'models', 'nextstep-emoji64'));
    expect(captions.styles.map((style) => style.suffix)).toEqual(['', ', 3d style', ', flat style', ', noto style', ', blob style', ', black and white style']);
    expect(captions.examples).toContain('red apple');
  });
});
