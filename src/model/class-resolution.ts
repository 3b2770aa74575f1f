/** Prompt → class, for models that draw classes; pure. */
import { INDEX, normalizeName, SYNSET, type ImageClass } from './classes.js';
import { comparable, similarNames, type ComparableName } from './similar-names.js';

export type Resolution =
  | { kind: 'found'; class: ImageClass }
  /** Several classes have this name. */
  | { kind: 'ambiguous'; classes: readonly ImageClass[] }
  /** Closest first; empty where nothing is close. */
  | { kind: 'unknown'; suggestions: readonly ImageClass[] };

const MAX_SUGGESTIONS = 5;

/** No class is called anything like it beyond that, and a prompt may be far longer than what reading it should cost. */
const MAX_NAME_LENGTH = 500;

/**
 * Finds the class that a prompt names. The first rule under which anything matches decides: index, synset, name, synonym.
 * So a class called "apple" is meant by "apple" even where another has it as a synonym. Nothing is guessed: what matches no
 * class, or several, is told with what may have been meant.
 */
export class ClassResolver {
  private readonly byName = new Map<string, ImageClass[]>();
  private readonly bySynonym = new Map<string, ImageClass[]>();
  private readonly bySynset = new Map<string, ImageClass>();
  private readonly names: readonly ComparableName<ImageClass>[];

  constructor(private readonly classes: readonly ImageClass[]) {
    for (const entry of classes) {
      add(this.byName, entry.name, entry);
      for (const synonym of entry.synonyms) add(this.bySynonym, synonym, entry);
      if (entry.synset !== null) this.bySynset.set(entry.synset, entry);
    }
    this.names = [...this.byName, ...this.bySynonym].flatMap(([name, entries]) => entries.map((entry) => comparable(name, entry)));
  }

  resolve(prompt: string): Resolution {
    if (prompt.length > MAX_NAME_LENGTH) return { kind: 'unknown', suggestions: [] };
    const text = normalizeName(prompt);
    if (INDEX.test(text)) return found(this.classes[Number(text)]);
    if (SYNSET.test(text)) return found(this.bySynset.get(text));
    const matches = this.byName.get(text) ?? this.bySynonym.get(text);
    if (matches === undefined) return { kind: 'unknown', suggestions: similarNames(text, this.names, MAX_SUGGESTIONS) };
    const [only, ...others] = matches;
    return only !== undefined && others.length === 0 ? { kind: 'found', class: only } : { kind: 'ambiguous', classes: matches };
  }
}

function found(entry: ImageClass | undefined): Resolution {
  return entry === undefined ? { kind: 'unknown', suggestions: [] } : { kind: 'found', class: entry };
}

function add(names: Map<string, ImageClass[]>, name: string, entry: ImageClass): void {
  const key = normalizeName(name);
  const entries = names.get(key);
  if (entries === undefined) names.set(key, [entry]);
  else if (!entries.includes(entry)) entries.push(entry);
}
