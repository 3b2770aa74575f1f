import { describe, expect, it } from 'vitest';
import type { ImageClass } from '../../../web/src/protocol/classes.js';
import { grouped, matchClasses, promptOf, randomClass } from '../../../web/src/state/classes.js';

const CLASSES: ImageClass[] = [
  { name: 'clapping hands', synonyms: ['applause'], group: 'people' },
  { name: 'red apple', synonyms: ['apple'], group: 'food' },
  { name: 'green apple', synonyms: [], group: 'food' },
  { name: 'pineapple', synonyms: ['ananas'], group: 'food' },
  { name: 'piñata', synonyms: [], group: 'things' },
  { name: 'crane', synonyms: ['bird'], synset: 'n02012849' },
  { name: 'Crane', synonyms: ['machine'], synset: 'n03126707' },
].map((entry, index) => ({ synset: null, group: null, ...entry, index }));

const found = (query: string): string[] => matchClasses(CLASSES, query).map(({ entry, via }) => (via === null ? entry.name : `${entry.name} (${via})`));

describe('matchClasses', () => {
  it('finds all for nothing, in the order of the model', () => {
    expect(matchClasses(CLASSES, '  ').map(({ entry }) => entry.index)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it.each([
    // A name or synonym itself, then what begins so (shortest first), then what has a word that does, then what has it inside.
    ['apple', ['red apple (apple)', 'green apple', 'pineapple']],
    ['app', ['red apple (apple)', 'clapping hands (applause)', 'green apple', 'pineapple']],
    ['apple red', ['red apple']],
    ['Pinata', ['piñata']],
    ['PIÑA', ['piñata']],
    ['green-apple', ['green apple']],
    ['anan', ['pineapple (ananas)']],
    ['n02012849', ['crane (n02012849)']],
    ['2', ['green apple (2)']],
    ['zzz', []],
  ])('%j finds %j', (query, names) => {
    expect(found(query)).toEqual(names);
  });
});

describe('grouped', () => {
  it('keeps the best match on top, and the group of each', () => {
    const groups = grouped(matchClasses(CLASSES, 'app')).map(({ name, matches }) => [name, matches.map(({ entry }) => entry.name)]);
    expect(groups).toEqual([['food', ['red apple', 'green apple', 'pineapple']], ['people', ['clapping hands']]]);
  });
});

describe('promptOf', () => {
  it('is the name, and the synset or index where others are called so', () => {
    expect([0, 5, 6].map((index) => promptOf(CLASSES[index]!, CLASSES))).toEqual(['clapping hands', 'n02012849', 'n03126707']);
    const twins = CLASSES.slice(5).map((entry) => ({ ...entry, synset: null }));
    expect(promptOf(twins[1]!, twins)).toBe('6');
  });
});

describe('randomClass', () => {
  it('is one of them, from the first to the last', () => {
    expect([0, 0.999].map((value) => randomClass(CLASSES, () => value)?.index)).toEqual([0, 6]);
    expect(randomClass([])).toBeNull();
  });
});
