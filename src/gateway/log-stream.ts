import { Readable } from 'node:stream';
import type { ServerError } from '../errors.js';
import type { JobLogReader, LogEntry } from '../jobs/event-log.js';

/** One server-sent event. */
export interface Frame {
  event: string;
  data: object;
  /** What a client that comes back names as Last-Event-ID. */
  id?: string;
  /** Set where the event says that the job failed. */
  error?: ServerError;
}

/** Makes the next event when there is room for it; null: nothing new. */
export type FrameSource = () => Frame | null;

/** What may lie between us and the socket; a frame that is larger goes alone. */
const BUFFER_BYTES = 64 * 1024;

/** With the usual heartbeat two and a half minutes, for one event. */
const MAX_BUSY_BEATS = 10;

/**
 * A job's log as a body of server-sent events. It is pulled: an event is made when the socket has taken the one before,
 * so a slow reader holds one event in memory, and the job never waits for it.
 */
export class LogStream extends Readable {
  /** Settles with the first bytes; rejects if the job ended before there were any, so that the status can still say so. */
  readonly begun: Promise<void>;
  private begin!: { resolve: () => void; reject: (error: ServerError) => void };
  private hasBegun = false;
  /** The reader takes more. */
  private wanted = true;
  /** Heartbeats since the reader last took something that it had to wait for. */
  private busyBeats = 0;
  private readonly heartbeat: NodeJS.Timeout;
  /** Set while progress waits to be told. */
  private progress: NodeJS.Timeout | undefined;
  private readonly unsubscribe: () => void;

  constructor(
    private readonly log: JobLogReader,
    private readonly source: FrameSource,
    private readonly pace: { heartbeatMs: number; progressMs: number },
    /** Sent before everything else. */
    prologue = '',
  ) {
    super({ highWaterMark: BUFFER_BYTES });
    this.begun = new Promise((resolve, reject) => {
      this.begin = { resolve, reject };
    });
    this.begun.catch(() => undefined);
    this.heartbeat = setTimeout(() => {
      this.beat();
    }, pace.heartbeatMs).unref();
    this.unsubscribe = log.subscribe((entry) => {
      this.onEntry(entry);
    });
    if (prologue !== '') this.write(prologue);
    this.pump();
  }

  override _read(): void {
    this.wanted = true;
    this.busyBeats = 0;
    this.pump();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.heartbeat);
    clearTimeout(this.progress);
    this.unsubscribe();
    callback(error);
  }

  /** Tokens are told of together and at leisure: each would be a write to every watcher. Everything else at once. */
  private onEntry({ event }: LogEntry): void {
    if (event.kind !== 'tokens' || this.pace.progressMs === 0) this.pump();
    else this.progress ??= setTimeout(() => { this.pump(); }, this.pace.progressMs).unref();
  }

  private pump(): void {
    clearTimeout(this.progress);
    this.progress = undefined;
    while (this.wanted && !this.readableEnded && !this.destroyed) {
      // Asked before the source: what is appended later comes with its own call.
      const { closed } = this.log;
      const frame = this.source();
      if (frame === null) {
        if (closed) this.finish();
        return;
      }
      if (!this.hasBegun && frame.error !== undefined) {
        this.begin.reject(frame.error);
        this.destroy();
        return;
      }
      this.write(encode(frame));
    }
  }

  private write(text: string): void {
    this.hasBegun = true;
    this.wanted = this.push(text);
    this.heartbeat.refresh();
    this.begin.resolve();
  }

  private finish(): void {
    this.wanted = false;
    clearTimeout(this.heartbeat);
    this.push(null);
    this.begin.resolve();
  }

  /**
   * Proxies and clients close silent connections. One that is still busy with an event is not silent; but one that is
   * busy for many beats does not read at all, and would hold its job and all pictures for as long as it likes.
   */
  private beat(): void {
    if (this.wanted) {
      this.write(': keep-alive\n\n');
      return;
    }
    this.busyBeats += 1;
    if (this.busyBeats >= MAX_BUSY_BEATS) this.destroy();
    else this.heartbeat.refresh();
  }
}

function encode({ event, data, id }: Frame): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
