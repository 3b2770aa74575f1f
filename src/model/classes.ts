/**
 * `classes.json` of a model folder: what the model can draw, for models whose prompt is one of so many classes.
 *
 *   {"version": 1,
 *    "classes": [{"index": 0, "name": "red apple", "synonyms": ["apple"], "synset": "n07739125", "group": "food"}, ...],
 *    "default_prompt_examples": ["red apple", ...]}
 *
 * One entry per class, in the order of the model's table. Names need not be unique (ImageNet has two cranes): which of them is
 * meant is then said by synset or index. `synonyms`, `synset` and `group` may be left out.
 */
import { InvalidModelFile, readNumber, readObject, readOptional, readString } from './json-file.js';

export interface ImageClass {
  index: number;
  name: string;
  synonyms: readonly string[];
  /** WordNet id, like n02084071. */
  synset: string | null;
  /** Of classes that belong together, for people who look for one. */
  group: string | null;
}

export interface ClassList {
  classes: readonly ImageClass[];
  /** Prompts that it draws well. */
  examples: readonly string[];
}

const VERSION = 1;

/** Equal for what people take for the same name: case, accents, width, hyphens, spacing and a last full stop do not count. */
export function normalizeName(text: string): string {
  const plain = text.normalize('NFKD').replace(/\p{M}+/gu, '').toLowerCase().replace(/[\s_\-‐‑–—]+/g, ' ').trim();
  // By hand: a pattern for a tail tries again from every one of its characters. What is nothing but punctuation stays.
  let end = plain.length;
  while (end > 0 && ' .!?'.includes(plain[end - 1]!)) end -= 1;
  return end > 0 ? plain.slice(0, end) : plain.slice(0, 1);
}

/** Names of a class beside its own; a prompt of digits is an index and one like this a synset, so no name may look like either. */
export const SYNSET = /^n\d{8}$/;
export const INDEX = /^\d+$/;

/** For folders without the file: every class is known by its index alone. */
export function numberedClasses(count: number): ClassList {
  return { classes: Array.from({ length: count }, (_, index) => ({ index, name: `class ${index}`, synonyms: [], synset: null, group: null })), examples: [] };
}

export function parseClasses(file: string, value: unknown, count: number): ClassList {
  const json = readObject(file, value);
  if (json['version'] !== VERSION) throw new InvalidModelFile(file, `"version" must be ${VERSION}`);
  const list = json['classes'];
  if (!Array.isArray(list)) throw new InvalidModelFile(file, '"classes" must be a list');
  if (list.length !== count) throw new InvalidModelFile(file, `"classes" has ${list.length} entries, the model ${count} classes`);
  const classes = list.map((entry, index) => parseClass(file, entry, index));
  refuseEqual(file, classes);
  return { classes, examples: readOptional(json, 'default_prompt_examples', [], namesOf(file)) };
}

function parseClass(file: string, value: unknown, index: number): ImageClass {
  const key = `classes[${index}]`;
  const json = readObject(file, value);
  const said = readNumber(file, { min: 0, integer: true })(`${key}.index`, json['index']);
  if (said !== index) throw new InvalidModelFile(file, `"${key}.index" is ${said}; classes are listed in the order of the model's table`);
  const synset = readOptional(json, 'synset', null, (_, text) => readString(file)(`${key}.synset`, text));
  if (synset !== null && !SYNSET.test(synset)) throw new InvalidModelFile(file, `"${key}.synset" must be like n02084071`);
  return {
    index,
    name: readName(file, `${key}.name`, json['name']),
    synonyms: readOptional(json, 'synonyms', [], (_, names) => namesOf(file)(`${key}.synonyms`, names)),
    synset,
    group: readOptional(json, 'group', null, (_, text) => readName(file, `${key}.group`, text)),
  };
}

function namesOf(file: string) {
  return (key: string, value: unknown): readonly string[] => {
    if (!Array.isArray(value)) throw new InvalidModelFile(file, `"${key}" must be a list`);
    return value.map((item, i) => readName(file, `${key}[${i}]`, item));
  };
}

function readName(file: string, key: string, value: unknown): string {
  const name = readString(file)(key, value);
  const said = normalizeName(name);
  if (said === '') throw new InvalidModelFile(file, `"${key}" is blank`);
  if (SYNSET.test(said) || INDEX.test(said)) throw new InvalidModelFile(file, `"${key}" is ${JSON.stringify(name)}, which a prompt uses for a synset or an index`);
  return name;
}

/** Two classes of one synset could not be told apart by it. */
function refuseEqual(file: string, classes: readonly ImageClass[]): void {
  const seen = new Map<string, number>();
  for (const { synset, index } of classes) {
    if (synset === null) continue;
    const other = seen.get(synset);
    if (other !== undefined) throw new InvalidModelFile(file, `classes ${other} and ${index} have the same synset ${synset}`);
    seen.set(synset, index);
  }
}
