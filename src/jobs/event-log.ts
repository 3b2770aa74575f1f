import type { JobEvent } from './job.js';

/** One event with its place in the job's history. */
export interface LogEntry {
  /** 1, 2, 3, … within the job; a gap means that entries were trimmed. */
  seq: number;
  /** Milliseconds since 1970. */
  ts: number;
  event: JobEvent;
}

export interface Replay {
  /** What is left of the entries after the asked seq, in order. */
  entries: readonly LogEntry[];
  /** Some of them are gone: the first and the last that was trimmed; null: nothing is missing. */
  gap: { from: number; to: number } | null;
}

/** What sockets see of a job's log. They read at their own pace; nothing that writes ever waits for them. */
export interface JobLogReader {
  /** Tells this log from one of the same job after a restart of the server; clients resume by (epoch, seq). */
  readonly epoch: string;
  /** seq of the newest entry; 0 when there is none. */
  readonly lastSeq: number;
  /** True once a final event (succeeded, failed, cancelled) is in it: nothing follows. */
  readonly closed: boolean;
  since(after: number): Replay;
  /** Called synchronously for each entry from now on; returns how to stop. Must not throw or block. */
  subscribe(listener: (entry: LogEntry) => void): () => void;
}

/** Progress that is kept: enough for a client that was away for seconds, little for a job that nobody follows. */
const MAX_TOKEN_ENTRIES = 256;

/** An entry, its event and their places in arrays: measured as the growth of the process by jobs kept, rounded up. */
const ENTRY_BYTES = 400;

/**
 * The history of one job. It keeps every lifecycle event and every finished picture, the last 256 `tokens` events, and
 * of each image the newest of them and the newest preview of each kind; so its size is bounded whatever the job does.
 */
export class JobLog implements JobLogReader {
  lastSeq = 0;
  closed = false;
  private pictureBytes = 0;
  /** Never trimmed. */
  private readonly kept: LogEntry[] = [];
  private readonly tokens: LogEntry[] = [];
  /** By image: its newest `tokens` event, where that is older than those of `tokens`. */
  private readonly stale = new Map<number, LogEntry>();
  /** By kind and image. */
  private readonly previews = new Map<string, LogEntry>();
  private last: LogEntry | null = null;
  private readonly listeners = new Set<(entry: LogEntry) => void>();

  /** `onWatched` hears when the first listener comes and when the last one leaves. */
  constructor(
    readonly epoch: string,
    private readonly now: () => number,
    private readonly onWatched: (watched: boolean) => void = () => undefined,
  ) {}

  append(event: JobEvent): void {
    if (this.closed) throw new Error(`${event.kind} after the end of the job`);
    this.lastSeq += 1;
    const entry: LogEntry = { seq: this.lastSeq, ts: this.now(), event };
    this.last = entry;
    this.keep(entry);
    // A listener may leave, or another come, while it is told; those who come read the entry by `since`.
    for (const listener of [...this.listeners]) listener(entry);
  }

  since(after: number): Replay {
    // Most readers are up to date and ask for what was just appended.
    if (this.last !== null && after === this.last.seq - 1) return { entries: [this.last], gap: null };
    const entries = [...this.kept, ...this.stale.values(), ...this.tokens, ...this.previews.values()]
      .filter((entry) => entry.seq > after)
      .sort((a, b) => a.seq - b.seq);
    return { entries, gap: gapIn(entries, Math.max(0, after), this.lastSeq) };
  }

  subscribe(listener: (entry: LogEntry) => void): () => void {
    // Its own function, so that the same listener may subscribe twice.
    const own = (entry: LogEntry): void => {
      listener(entry);
    };
    this.listeners.add(own);
    if (this.listeners.size === 1) this.onWatched(true);
    return () => {
      if (this.listeners.delete(own) && this.listeners.size === 0) this.onWatched(false);
    };
  }

  /** What it holds, about: pictures and previews, and the events themselves, which outweigh a small picture. */
  get bytes(): number {
    return this.pictureBytes + ENTRY_BYTES * (this.kept.length + this.tokens.length + this.stale.size + this.previews.size);
  }

  get watched(): boolean {
    return this.listeners.size > 0;
  }

  /** Trims the oldest, but of each image the newest stays: how far it is must be known whatever the others do. */
  private keepTokens(entry: LogEntry, image: number): void {
    this.stale.delete(image);
    this.tokens.push(entry);
    if (this.tokens.length <= MAX_TOKEN_ENTRIES) return;
    const oldest = this.tokens.shift()!;
    if (oldest.event.kind !== 'tokens') return;
    const { image: trimmed } = oldest.event;
    if (!this.tokens.some(({ event }) => event.kind === 'tokens' && event.image === trimmed)) this.stale.set(trimmed, oldest);
  }

  private keep(entry: LogEntry): void {
    const { event } = entry;
    switch (event.kind) {
      case 'tokens':
        this.keepTokens(entry, event.image);
        return;
      case 'preview': {
        const key = `${event.preview.kind} ${event.preview.image}`;
        const before = this.previews.get(key)?.event;
        if (before?.kind === 'preview') this.pictureBytes -= before.preview.bytes.byteLength;
        this.pictureBytes += event.preview.bytes.byteLength;
        this.previews.set(key, entry);
        return;
      }
      case 'image':
        this.pictureBytes += event.image.bytes.byteLength;
        break;
      case 'succeeded':
      case 'failed':
      case 'cancelled':
        this.closed = true;
        break;
      case 'queued':
      case 'started':
        break;
    }
    this.kept.push(entry);
  }
}

/** The smallest range that holds every seq in (after, lastSeq] without an entry. Entries may stand inside it. */
function gapIn(entries: readonly LogEntry[], after: number, lastSeq: number): Replay['gap'] {
  let from = 0;
  let to = 0;
  let expected = after + 1;
  for (const next of [...entries.map(({ seq }) => seq), lastSeq + 1]) {
    if (next > expected) {
      from ||= expected;
      to = next - 1;
    }
    expected = next + 1;
  }
  return from === 0 ? null : { from, to };
}
