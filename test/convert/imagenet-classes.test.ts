import { describe, expect, it } from 'vitest';
import { imagenetClasses } from '../../src/convert/imagenet-classes.js';
import { ClassResolver } from '../../src/model/class-resolution.js';
import { parseClasses } from '../../src/model/classes.js';

const { classes, examples } = parseClasses('classes.json', imagenetClasses(), 1000);
const resolver = new ClassResolver(classes);

describe('imagenetClasses', () => {
  it('is in ascending order of synsets, as released models are trained', () => {
    const synsets = classes.map(({ synset }) => synset);
    expect(synsets).toEqual([...synsets].sort());
    expect([classes[0], classes[1], classes[999]].map((entry) => entry?.name)).toEqual(['tench', 'goldfish', 'toilet tissue']);
  });

  it('is found by synset, and by name but where two have it', () => {
    for (const entry of classes) expect(resolver.resolve(entry.synset ?? '')).toEqual({ kind: 'found', class: entry });
    const ambiguous = classes.filter(({ name }) => resolver.resolve(name).kind === 'ambiguous').map(({ name }) => name);
    expect(ambiguous).toEqual(['crane', 'Cardigan', 'cardigan', 'crane', 'maillot', 'maillot']);
    for (const name of ['crane bird', 'construction crane', ...examples]) expect(resolver.resolve(name)).toMatchObject({ kind: 'found' });
  });
});
