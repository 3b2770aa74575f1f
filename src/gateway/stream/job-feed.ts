import { envelopeOf, ServerError } from '../../errors.js';
import { CONTENT_TYPES } from '../../image/encode.js';
import type { JobHandle } from '../../jobs/backend.js';
import type { LogEntry } from '../../jobs/event-log.js';
import type { JobEvent, JobPreview } from '../../jobs/job.js';
import { advance, startProgress, type Progress, type ProgressState } from '../../jobs/progress.js';
import { timingsOf, usageOf } from '../image-response.js';
import { progressFields } from '../progress-fields.js';
import type { BinaryMeta } from './binary-frame.js';
import type { PreviewWish, ServerFrame } from './frames.js';

/** A text frame and, for pictures, the binary frame behind it. */
export interface Outgoing {
  text: ServerFrame;
  binary?: { meta: BinaryMeta; bytes: Uint8Array };
}

/** Tokens of one image that go out as one frame. */
interface TokenRun {
  firstSeq: number;
  newest: LogEntry;
  from: number;
  to: number;
  total: number;
  accepted: boolean[] | undefined;
}

export interface FeedOptions {
  /** seq of the last entry the client has. */
  after: number;
  /** Null: no previews. */
  preview: PreviewWish | null;
  /** Previews that may be under way unacknowledged. */
  window: number;
  /** Predicted wait in the queue, in milliseconds. */
  etaMs: () => number | null;
  onPreview: (preview: JobPreview) => void;
  now: () => number;
}

/**
 * A job's log as frames for one socket, pulled: a frame is made when the socket has room for it, so a slow reader costs no
 * memory. What it missed in the meantime is merged: tokens of an image into one frame, progress into the latest; of
 * previews the newest of each image is left. Everything else is told in order and never left out.
 */
export class JobFeed {
  /** Of the newest entry that was read. */
  private seq: number;
  private state: ProgressState;
  /** Made and not taken yet. */
  private ready: Outgoing[] = [];
  /** Previews without credit: the newest of each kind and image. */
  private readonly held = new Map<string, LogEntry>();
  /** Their seqs. */
  private unacknowledged: number[] = [];
  private readonly lastFull = new Map<number, number>();

  constructor(
    private readonly job: JobHandle,
    private readonly options: FeedOptions,
  ) {
    this.seq = options.after;
    this.state = startProgress(job.request);
    if (this.seq > 0) {
      for (const entry of job.log.since(0).entries) if (entry.seq <= this.seq) this.state = advance(this.state, entry).state;
    }
  }

  /** All is told and nothing follows. */
  get isOver(): boolean {
    return this.job.log.closed && this.seq >= this.job.log.lastSeq && this.ready.length === 0;
  }

  /** The client has drawn the preview of that seq, and with it every earlier one. */
  ack(seq: number): void {
    this.unacknowledged = this.unacknowledged.filter((sent) => sent > seq);
  }

  /** Null: nothing new, or no credit for it. */
  next(): Outgoing | null {
    while (this.ready.length === 0) {
      if (this.releaseHeld()) break;
      if (!this.read()) return null;
    }
    return this.ready.shift() ?? null;
  }

  /** Turns the next entries of the log into frames; false when there are none. */
  private read(): boolean {
    const { log } = this.job;
    const entries = this.seq < log.lastSeq ? log.since(this.seq).entries : [];
    const [first] = entries;
    if (first === undefined) return false;
    const { event } = first;
    if (event.kind === 'tokens') this.readTokens(entries);
    else this.readOne(first, event);
    return true;
  }

  /**
   * A run of token events, until something else happened: of each image one frame. What a frame says may begin before
   * the frame ahead of it ends, so each but the last carries the seq just before its successor's first event: a client
   * that is cut off between them and resumes is told some tokens again, and misses none.
   */
  private readTokens(entries: readonly LogEntry[]): void {
    const runs = new Map<number, TokenRun>();
    // Hundreds of watchers may do this for every step, so nothing is made for the events in between.
    for (const entry of entries) {
      const { event } = entry;
      if (event.kind !== 'tokens') break;
      this.seq = entry.seq;
      const run = runs.get(event.image);
      if (run === undefined) {
        runs.set(event.image, { firstSeq: entry.seq, newest: entry, from: event.from, to: event.to, total: event.total, accepted: event.accepted });
        continue;
      }
      run.newest = entry;
      // Entries in between may have been trimmed from the log: what is not known of all is not told.
      run.accepted = event.from === run.to ? join(run.accepted, event.accepted) : undefined;
      run.to = event.to;
    }
    let last: { entry: LogEntry; progress: Progress } | null = null;
    const list = [...runs];
    for (const [k, [image, { newest, from, to, total, accepted }]] of list.entries()) {
      const next = list[k + 1];
      const seq = next === undefined ? this.seq : next[1].firstSeq - 1;
      const text = { ...this.head('tokens', newest), seq, image, from, to, total };
      this.ready.push({ text: accepted === undefined ? text : { ...text, accepted } });
      const progress = this.move(newest);
      // The newest event of all names the progress frame.
      if (progress !== null && newest.seq >= (last?.entry.seq ?? 0)) last = { entry: newest, progress };
      else if (progress !== null && last !== null) last = { entry: last.entry, progress };
    }
    if (last !== null) this.pushProgress(last.entry, last.progress);
  }

  private readOne(entry: LogEntry, event: Exclude<JobEvent, { kind: 'tokens' }>): void {
    this.seq = entry.seq;
    const progress = this.move(entry);
    if (event.kind === 'preview') this.offerPreview(entry, event.preview);
    else this.ready.push(this.frameOf(entry, event));
    if (progress !== null) this.pushProgress(entry, progress);
  }

  private move(entry: LogEntry): Progress | null {
    const { state, progress } = advance(this.state, entry);
    this.state = state;
    return progress;
  }

  private pushProgress(entry: LogEntry, progress: Progress): void {
    this.ready.push({ text: { ...this.head('progress', entry), ...progressFields(progress) } });
  }

  private offerPreview(entry: LogEntry, preview: JobPreview): void {
    const wish = this.options.preview;
    if (wish === null) return;
    if (preview.kind === 'full') {
      if (Math.max(preview.width, preview.height) > (wish.max_px ?? Infinity)) return;
      const { now } = this.options;
      if (now() - (this.lastFull.get(preview.image) ?? -Infinity) < (wish.min_interval_ms ?? 0)) return;
      this.lastFull.set(preview.image, now());
    }
    this.held.set(`${preview.kind} ${preview.image}`, entry);
    this.releaseHeld();
  }

  /** Sends held previews as far as there is credit; whether any was. */
  private releaseHeld(): boolean {
    let released = false;
    for (const [key, entry] of this.held) {
      if (this.unacknowledged.length >= this.options.window) break;
      this.held.delete(key);
      if (entry.event.kind !== 'preview') continue;
      this.unacknowledged.push(entry.seq);
      this.options.onPreview(entry.event.preview);
      this.ready.push(this.previewFrame(entry, entry.event.preview));
      released = true;
    }
    return released;
  }

  private previewFrame(entry: LogEntry, preview: JobPreview): Outgoing {
    const { image, index, kind, format, width, height, rect, bytes } = preview;
    const mime = CONTENT_TYPES[format];
    const text: ServerFrame = { ...this.head('preview', entry), image, n: index, kind, bytes: bytes.byteLength, mime, w: width, h: height, rect };
    return { text, binary: { meta: { job: this.job.id, seq: entry.seq, image, image_type: mime, final: false, rect }, bytes } };
  }

  private frameOf(entry: LogEntry, event: Exclude<JobEvent, { kind: 'tokens' | 'preview' }>): Outgoing {
    const atStep = this.state.drawn.reduce((sum, count) => sum + count, 0);
    switch (event.kind) {
      case 'queued':
        return { text: { ...this.head('queued', entry), position: this.job.position, eta_ms: this.options.etaMs() } };
      case 'started':
        return { text: { ...this.head('started', entry), worker: event.worker, batch_size: event.batchSize } };
      case 'image': {
        const { index, seed, width, height, format, bytes } = event.image;
        const mime = CONTENT_TYPES[format];
        const text: ServerFrame = { ...this.head('image', entry), image: index, seed, bytes: bytes.byteLength, mime, w: width, h: height, final: true };
        return { text, binary: { meta: { job: this.job.id, seq: entry.seq, image: index, image_type: mime, final: true }, bytes } };
      }
      case 'succeeded':
        return { text: { ...this.head('completed', entry), usage: usageOf(this.job.request, event.result.images), timings: timingsOf(event.result.timings) } };
      case 'failed':
        return { text: { ...this.head('failed', entry), ...envelopeOf(event.error), at_step: atStep } };
      case 'cancelled': {
        const { error } = envelopeOf(new ServerError('cancelled', 'The job was cancelled.'));
        return { text: { ...this.head('cancelled', entry), reason: event.reason, error, at_step: atStep } };
      }
    }
  }

  private head<T extends string>(t: T, { seq, ts }: LogEntry): { t: T; job: string; seq: number; ts: number } {
    return { t, job: this.job.id, seq, ts };
  }
}

/** Of a merged frame only where every part has it. */
function join(a: boolean[] | undefined, b: boolean[] | undefined): boolean[] | undefined {
  return a === undefined || b === undefined ? undefined : [...a, ...b];
}
