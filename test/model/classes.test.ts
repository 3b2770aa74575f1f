import { describe, expect, it } from 'vitest';
import { numberedClasses, parseClasses } from '../../src/model/classes.js';

const FILE = 'classes.json';
const apple = { index: 0, name: 'red apple', synonyms: ['apple'], synset: 'n07739125', group: 'food' };
const dog = { index: 1, name: 'dog' };
const json = (changes: object = {}): object => ({ version: 1, classes: [apple, dog], default_prompt_examples: ['dog'], ...changes });

describe('parseClasses', () => {
  it('reads what is there and fills in what may be left out', () => {
    expect(parseClasses(FILE, json(), 2)).toEqual({
      classes: [apple, { index: 1, name: 'dog', synonyms: [], synset: null, group: null }],
      examples: ['dog'],
    });
  });

  it('takes two classes of one name: ImageNet has two cranes', () => {
    expect(parseClasses(FILE, json({ classes: [{ index: 0, name: 'crane' }, { index: 1, name: 'crane' }] }), 2).classes).toHaveLength(2);
  });

  it.each<[string, object, RegExp]>([
    ['another version', { version: 2 }, /"version" must be 1/],
    ['no list', { classes: {} }, /"classes" must be a list/],
    ['too few classes', { classes: [apple] }, /1 entries, the model 2 classes/],
    ['another order', { classes: [{ ...dog, index: 0 }, { ...apple, index: 0 }] }, /"classes\[1\]\.index" is 0/],
    ['no name', { classes: [apple, { index: 1 }] }, /"classes\[1\]\.name" must be a string/],
    ['a blank name', { classes: [apple, { index: 1, name: ' ' }] }, /"classes\[1\]\.name" is blank/],
    ['a name that looks like an index', { classes: [apple, { index: 1, name: '7' }] }, /synset or an index/],
    ['a name of full-width digits', { classes: [apple, { index: 1, name: '１２' }] }, /synset or an index/],
    ['a name of nothing but dashes', { classes: [apple, { index: 1, name: '--' }] }, /is blank/],
    ['a synonym that looks like a synset', { classes: [apple, { ...dog, synonyms: ['n02084071'] }] }, /"classes\[1\]\.synonyms\[0\]"/],
    ['synonyms that are no list', { classes: [apple, { ...dog, synonyms: 'hound' }] }, /"classes\[1\]\.synonyms" must be a list/],
    ['a synset that is none', { classes: [apple, { ...dog, synset: 'dog.n.01' }] }, /"classes\[1\]\.synset" must be like/],
    ['one synset twice', { classes: [apple, { ...dog, synset: apple.synset }] }, /classes 0 and 1 have the same synset/],
    ['examples that are no texts', { default_prompt_examples: [1] }, /"default_prompt_examples\[0\]" must be a string/],
  ])('refuses %s', (_name, changes, message) => {
    expect(() => parseClasses(FILE, json(changes), 2)).toThrow(message);
  });
});

describe('numberedClasses', () => {
  it('knows every class by its index', () => {
    expect(numberedClasses(3).classes.map(({ index, name }) => [index, name])).toEqual([[0, 'class 0'], [1, 'class 1'], [2, 'class 2']]);
  });
});
