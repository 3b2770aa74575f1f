/** What one turn of the event loop may spend on sockets: others wait for the loop as well. */
const TURN_MS = 4;

/** Progress is for eyes: more often than a display shows it, it is only work. */
const TICK_MS = 16;

/**
 * Whose turn it is to be written to. An event of a job that hundreds watch makes hundreds of sockets want to send at
 * once; they are served one after the other, for a few milliseconds of each turn of the event loop. Frames are made when
 * they are sent, so those who wait lose nothing: what happens meanwhile is merged into what they get.
 */
export class PumpQueue {
  private readonly waiting = new Set<() => boolean>();
  private isScheduled = false;
  /** Those who wait for the next tick. */
  private readonly later = new Set<() => boolean>();
  private tick: NodeJS.Timeout | null = null;

  /** `serve` sends a bounded number of frames and says whether there are more; equal ones wait once. */
  add(serve: () => boolean): void {
    this.waiting.add(serve);
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.run();
    });
  }

  /** The same, with the next tick: for what may be merged with what comes until then. */
  addLater(serve: () => boolean): void {
    this.later.add(serve);
    this.tick ??= setTimeout(() => {
      this.tick = null;
      const due = [...this.later];
      this.later.clear();
      for (const next of due) this.add(next);
    }, TICK_MS).unref();
  }

  remove(serve: () => boolean): void {
    this.waiting.delete(serve);
    this.later.delete(serve);
  }

  private run(): void {
    const end = performance.now() + TURN_MS;
    this.isScheduled = false;
    for (const serve of this.waiting) {
      this.waiting.delete(serve);
      if (serve()) this.waiting.add(serve);
      if (performance.now() >= end) break;
    }
    const [next] = this.waiting;
    if (next !== undefined) this.add(next);
  }
}
