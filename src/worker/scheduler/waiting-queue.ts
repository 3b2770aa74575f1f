import type { Sequence } from './sequence.js';

/**
 * Sequences that wait for blocks, by arrival. New ones come in at the end; a preempted one goes back to where its
 * arrival puts it, which is near the front, so the walk from the back is only long when it is rare.
 */
export class WaitingQueue {
  private readonly items: Sequence[] = [];

  get size(): number {
    return this.items.length;
  }

  peek(): Sequence | undefined {
    return this.items[0];
  }

  push(sequence: Sequence): void {
    let at = this.items.length;
    while (at > 0 && this.items[at - 1]!.arrival > sequence.arrival) at -= 1;
    this.items.splice(at, 0, sequence);
  }

  shift(): Sequence | undefined {
    return this.items.shift();
  }

  remove(sequence: Sequence): boolean {
    const at = this.items.indexOf(sequence);
    if (at < 0) return false;
    this.items.splice(at, 1);
    return true;
  }
}
