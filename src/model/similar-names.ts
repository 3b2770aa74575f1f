/**
 * Names close to a text, for suggestions; pure. Closeness is the Dice coefficient of the letter trigrams: a typing error
 * changes three of them, a missing or added word only its own.
 */

/** Below, names share no more than an ending with the text. */
const LEAST_CLOSENESS = 0.3;

/** A name inside the text, as whole words, is meant more likely than its share of the letters says: "a red apple on a table". */
const CONTAINED = 0.5;

/** Longer texts are descriptions; what they say first is compared. */
const MAX_LETTERS = 80;

/** A name with what it is compared by, made once. */
export interface ComparableName<T> {
  name: string;
  parts: ReadonlySet<string>;
  item: T;
}

export function comparable<T>(name: string, item: T): ComparableName<T> {
  return { name, parts: trigrams(name), item };
}

/** The closest first, each item once, at most `limit`. Names and text are normalized the same way. */
export function similarNames<T>(text: string, names: Iterable<ComparableName<T>>, limit: number): T[] {
  const start = text.slice(0, MAX_LETTERS);
  const wanted = trigrams(start);
  const padded = ` ${start} `;
  const best = new Map<T, number>();
  for (const { name, parts, item } of names) {
    const closeness = dice(wanted, parts) + (padded.includes(` ${name} `) ? CONTAINED : 0);
    if (closeness >= LEAST_CLOSENESS) best.set(item, Math.max(closeness, best.get(item) ?? 0));
  }
  return [...best].sort(([, a], [, b]) => b - a).slice(0, limit).map(([item]) => item);
}

/** Of the text with its borders; counted once each. */
function trigrams(text: string): Set<string> {
  const padded = `  ${text} `;
  const all = new Set<string>();
  for (let i = 0; i + 3 <= padded.length; ++i) all.add(padded.slice(i, i + 3));
  return all;
}

/** 0: nothing in common, 1: the same. */
function dice(a: ReadonlySet<string>, b: ReadonlySet<string>): number {
  let common = 0;
  for (const part of a) if (b.has(part)) common += 1;
  return (2 * common) / (a.size + b.size);
}
