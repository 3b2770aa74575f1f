import type { ImageClass } from '../protocol/classes.js';

/** A class that a query finds; `via`: the synonym that it was found by, where its name was not. */
export interface ClassMatch {
  entry: ImageClass;
  via: string | null;
}

export interface MatchGroup {
  name: string | null;
  matches: ClassMatch[];
}

/** As the server compares names: case, accents, width, hyphens and spacing do not count. */
export function normalize(text: string): string {
  return text.normalize('NFKD').replace(/\p{M}+/gu, '').toLowerCase().replace(/[\s_\-‐‑–—]+/g, ' ').trim();
}

/** Classes whose name, synonym, synset or index the query begins, best first; an empty query finds all, in the model's order. */
export function matchClasses(classes: readonly ImageClass[], query: string): ClassMatch[] {
  const wanted = normalize(query);
  if (wanted === '') return classes.map((entry) => ({ entry, via: null }));
  const found = classes.flatMap((entry) => {
    const best = bestOf(entry, wanted);
    return best === null ? [] : [{ entry, ...best }];
  });
  // Of equally good ones the query is most of the shortest.
  return found.sort((a, b) => a.rank - b.rank || a.length - b.length || a.entry.index - b.entry.index).map(({ entry, via }) => ({ entry, via }));
}

function bestOf({ index, name, synonyms, synset }: ImageClass, wanted: string): { rank: number; length: number; via: string | null } | null {
  if (wanted === synset || wanted === String(index)) return { rank: 0, length: wanted.length, via: wanted };
  const ranked = [name, ...synonyms].flatMap((text, i) => {
    const rank = rankOf(normalize(text), wanted);
    // Among equally good ones a name goes before a synonym.
    return rank === null ? [] : [{ rank: 2 * rank + (i === 0 ? 0 : 1), length: text.length, via: i === 0 ? null : text }];
  });
  return ranked.sort((a, b) => a.rank - b.rank || a.length - b.length)[0] ?? null;
}

/** 0: the name itself, 1: its beginning, 2: beginnings of its words in any order, 3: somewhere inside. */
function rankOf(name: string, wanted: string): number | null {
  if (name === wanted) return 0;
  if (name.startsWith(wanted)) return 1;
  const words = name.split(' ');
  if (wanted.split(' ').every((part) => words.some((word) => word.startsWith(part)))) return 2;
  return name.includes(wanted) ? 3 : null;
}

/** Groups in the order of their best match, so that the best one of all stays on top. */
export function grouped(matches: readonly ClassMatch[]): MatchGroup[] {
  const groups = new Map<string | null, ClassMatch[]>();
  for (const match of matches) {
    const group = groups.get(match.entry.group);
    if (group === undefined) groups.set(match.entry.group, [match]);
    else group.push(match);
  }
  return [...groups].map(([name, members]) => ({ name, matches: members }));
}

/** What is sent for a class: its name, unless others are called so too. */
export function promptOf({ name, synset, index }: ImageClass, classes: readonly ImageClass[]): string {
  const own = normalize(name);
  const isOnly = classes.filter((entry) => normalize(entry.name) === own).length === 1;
  return isOnly ? name : (synset ?? String(index));
}

export function randomClass(classes: readonly ImageClass[], random: () => number = Math.random): ImageClass | null {
  return classes[Math.floor(random() * classes.length)] ?? null;
}
