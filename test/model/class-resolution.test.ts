import { describe, expect, it } from 'vitest';
import { ClassResolver } from '../../src/model/class-resolution.js';
import { normalizeName, type ImageClass } from '../../src/model/classes.js';

const entry = (index: number, name: string, synonyms: string[] = [], synset: string | null = null): ImageClass => ({ index, name, synonyms, synset, group: null });

const CLASSES = [
  entry(0, 'red apple', ['apple']),
  entry(1, 'crane', ['machine'], 'n03126707'),
  entry(2, 'crane', ['bird'], 'n02012849'),
  entry(3, 'Café au lait', ['milk coffee', 'coffee']),
  entry(4, 'jack-o’-lantern', ['pumpkin']),
  entry(5, 'pumpkin pie', ['apple pie']),
  entry(6, 'apple tree', ['crane']),
  entry(7, 'hot dog', ['apple']),
];
const resolver = new ClassResolver(CLASSES);
const indexOf = (prompt: string): number | string => {
  const resolution = resolver.resolve(prompt);
  return resolution.kind === 'found' ? resolution.class.index : resolution.kind;
};
const suggestions = (prompt: string): number[] => {
  const resolution = resolver.resolve(prompt);
  if (resolution.kind !== 'unknown') throw new Error(resolution.kind);
  return resolution.suggestions.map(({ index }) => index);
};

describe('ClassResolver', () => {
  it.each([
    ['red apple', 0],
    ['  Red   APPLE ', 0],
    ['red_apple', 0],
    ['red-apple.', 0],
    ['cafe au lait', 3],
    ['CAFE\u0301 AU LAIT', 3],
    ['ｃｏｆｆｅｅ', 3],
    ['jack o’ lantern', 4],
    ['pumpkin', 4],
    ['machine', 1],
    ['n02012849', 2],
    ['N02012849', 2],
    ['6', 6],
    ['006', 6],
  ])('finds %j', (prompt, index) => {
    expect(indexOf(prompt)).toBe(index);
  });

  it('prefers a name to a synonym, and says so where names are equal', () => {
    const resolution = resolver.resolve('Crane');
    expect(resolution).toMatchObject({ kind: 'ambiguous', classes: [{ index: 1 }, { index: 2 }] });
  });

  it('is ambiguous where two classes share a synonym', () => {
    expect(resolver.resolve('apple')).toMatchObject({ kind: 'ambiguous', classes: [{ index: 0 }, { index: 7 }] });
  });

  it('does not take a synonym of the class itself for a second class', () => {
    expect(new ClassResolver([entry(0, 'dog', ['hound', 'Hound'])]).resolve('hound')).toMatchObject({ kind: 'found' });
  });

  it.each(['8', '99999999999999999999', 'n00000000'])('knows no class %s and guesses none', (prompt) => {
    expect(resolver.resolve(prompt)).toEqual({ kind: 'unknown', suggestions: [] });
  });

  it('suggests what was mistyped, and what a longer text names', () => {
    expect(suggestions('pumkin')[0]).toBe(4);
    expect(suggestions('red aple')[0]).toBe(0);
    expect(suggestions('a red apple on a table, oil painting')[0]).toBe(0);
    expect(suggestions('coffe')).toContain(3);
    expect(suggestions('xyzzy')).toEqual([]);
  });

  it('suggests every class once, five at most, the closest first', () => {
    const many = new ClassResolver(Array.from({ length: 20 }, (_, i) => entry(i, `apple ${String.fromCharCode(97 + i)}`, [`apples ${String.fromCharCode(97 + i)}`])));
    const resolution = many.resolve('apple');
    const found = resolution.kind === 'unknown' ? resolution.suggestions : [];
    expect(found).toHaveLength(5);
    expect(new Set(found).size).toBe(5);
  });

  it('does not read texts that no class could have as its name', () => {
    expect(resolver.resolve('a red apple '.repeat(50))).toEqual({ kind: 'unknown', suggestions: [] });
    expect(resolver.resolve('…'.repeat(32_000))).toEqual({ kind: 'unknown', suggestions: [] });
  });

  it('is quick with the longest prompt and a thousand classes', () => {
    const thousand = new ClassResolver(Array.from({ length: 1000 }, (_, i) => entry(i, `some class number ${'x'.repeat(i % 30)}`, ['a', 'b', 'c'].map((part) => `${part} ${i} synonym`))));
    const begin = performance.now();
    thousand.resolve('some very long text '.repeat(1600));
    thousand.resolve(`${'…'.repeat(499)}a`);
    // A few milliseconds; the bound is for machines that are busy.
    expect(performance.now() - begin).toBeLessThan(500);
  });
});

describe('normalizeName', () => {
  it('is stable: what it gives stays as it is', () => {
    expect(normalizeName('Red  Apple . ?!')).toBe('red apple');
    // Time grows with the length, whatever the text is made of: 96,000 full stops that end nothing.
    expect(normalizeName(`${'…'.repeat(32_000)}a`)).toHaveLength(96_001);
    for (const text of ['  Ünïcode—DASH  ', 'a_b-c', 'x?!.', 'x. .', '１２', '!?']) expect(normalizeName(normalizeName(text))).toBe(normalizeName(text));
  });
});
