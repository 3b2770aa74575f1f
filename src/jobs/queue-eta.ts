export interface Load {
  /** Image tokens that each picture in the batch still lacks. */
  running: readonly number[];
  /** Image tokens of each picture that has not started, in the order in which they will. */
  waiting: readonly number[];
  /** Pictures drawn at once. */
  slots: number;
  /** Of all pictures together. */
  tokensPerSecond: number;
}

/**
 * Seconds until a picture that is asked for now would start. Pure: it plays the queue forward, every slot at an equal
 * share of the measured speed, each waiting picture into the slot that is free first.
 *
 *   slots │ ▓▓▓▓▓▓ running │ waiting 0 │ ← here
 *         │ ▓▓ │ waiting 1        │ waiting 2 │
 */
export function predictWaitSeconds({ running, waiting, slots, tokensPerSecond }: Load): number {
  const free = Math.max(0, slots - running.length);
  if (waiting.length < free) return 0;
  // Tokens that each slot draws before it is free.
  const ends = [...running, ...Array<number>(free).fill(0)].sort((a, b) => a - b);
  for (const tokens of waiting) {
    const earliest = ends.shift() ?? 0;
    insert(ends, earliest + tokens);
  }
  return (ends[0] ?? 0) / (tokensPerSecond / Math.max(1, slots));
}

/** Keeps `sorted` ascending. */
function insert(sorted: number[], value: number): void {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  sorted.splice(low, 0, value);
}
