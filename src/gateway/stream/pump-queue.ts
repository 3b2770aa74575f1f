/** What one turn of the event loop may spend on sockets: others wait for the loop as well. */
const TURN_MS = 4;

/**
 * Whose turn it is to be written to. An event of a job that hundreds watch makes hundreds of sockets want to send at
 * once; they are served one after the other, for a few milliseconds of each turn of the event loop. Frames are made when
 * they are sent, so those who wait lose nothing: what happens meanwhile is merged into what they get.
 */
export class PumpQueue {
  private readonly waiting = new Set<() => boolean>();
  private isScheduled = false;

  /** `serve` sends a bounded number of frames and says whether there are more; equal ones wait once. */
  add(serve: () => boolean): void {
    this.waiting.add(serve);
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.run();
    });
  }

  remove(serve: () => boolean): void {
    this.waiting.delete(serve);
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
