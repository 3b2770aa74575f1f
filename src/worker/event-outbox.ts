import type { Clock } from '../jobs/clock.js';
import type { WireEvent } from '../jobs/ipc.js';

type Tokens = WireEvent & { kind: 'tokens' };
export type Addressed = { id: number; event: WireEvent };

/** How old the progress of a job that nobody watches may be where it is known. */
const UNWATCHED_MS = 250;

/**
 * Events on their way out of the worker. What happens in one turn of the event loop, a step's tokens of all pictures
 * say, leaves as one message. Tokens of jobs that nobody watches wait longer and are told in one piece: most requests
 * are answered before anybody asks how far they are.
 */
export class EventOutbox {
  private ready: Addressed[] = [];
  private readonly watched = new Set<number>();
  /** Tokens of unwatched jobs: the last piece of each image. */
  private readonly held = new Map<number, Map<number, Tokens>>();
  private isTimerSet = false;

  constructor(
    private readonly send: (events: Addressed[]) => void,
    private readonly clock: Clock,
  ) {}

  watch(id: number, watched: boolean): void {
    if (!watched) {
      this.watched.delete(id);
      return;
    }
    this.watched.add(id);
    this.release(id);
  }

  /** Nothing of the job is to be told any more. */
  forget(id: number): void {
    this.watched.delete(id);
    this.held.delete(id);
  }

  push(id: number, event: WireEvent): void {
    if (event.kind === 'tokens' && !this.watched.has(id)) {
      this.hold(id, event);
      return;
    }
    this.release(id);
    this.enqueue({ id, event });
    if (event.kind === 'succeeded' || event.kind === 'failed') this.forget(id);
  }

  private hold(id: number, event: Tokens): void {
    let images = this.held.get(id);
    if (images === undefined) this.held.set(id, (images = new Map<number, Tokens>()));
    const before = images.get(event.image);
    const joined = before === undefined ? event : join(before, event);
    if (joined === null) this.release(id);
    images.set(event.image, joined ?? event);
    this.held.set(id, images);
    this.setTimer();
  }

  private release(id: number): void {
    const images = this.held.get(id);
    if (images === undefined) return;
    this.held.delete(id);
    for (const event of images.values()) this.enqueue({ id, event });
    images.clear();
  }

  private setTimer(): void {
    if (this.isTimerSet) return;
    this.isTimerSet = true;
    this.clock.after(UNWATCHED_MS, () => {
      this.isTimerSet = false;
      for (const id of [...this.held.keys()]) this.release(id);
    });
  }

  private enqueue(event: Addressed): void {
    this.ready.push(event);
    if (this.ready.length > 1) return;
    queueMicrotask(() => {
      const events = this.ready;
      this.ready = [];
      this.send(events);
    });
  }
}

/** One piece of two that follow each other; null when only one of them says which drafts were taken. */
function join(before: Tokens, next: Tokens): Tokens | null {
  if (before.accepted === undefined && next.accepted === undefined) return { ...next, from: before.from };
  if (before.accepted === undefined || next.accepted === undefined) return null;
  return { ...next, from: before.from, accepted: [...before.accepted, ...next.accepted] };
}
