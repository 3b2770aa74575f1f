import { isLast, type DrawEvent, type DrawListener } from './events.js';
import type { BinaryFrame, ResumePoint, ServerFrame } from './frames.js';

type JobFrame = Extract<ServerFrame, { job: string; seq: number }>;

/**
 * One job as seen through the socket: its frames in order, each once, as events. A replay after a reconnect repeats
 * what was seen; `after` tells the server where to go on, and what comes twice is dropped here.
 */
export class JobStream {
  private job: string | null = null;
  private epoch = '';
  /** seq of the newest entry whose frames are all here. */
  private after = 0;
  /** Seeds by image, from the announcing text frames. */
  private readonly seeds = new Map<number, number>();
  /** Finished pictures that were handed on: one image, one event. */
  private readonly finished = new Set<number>();
  /** Which whole picture the next binary frame is; null: strips of rows, whose place is with their bytes. */
  private partial: number | null = null;
  private closed = false;

  constructor(
    readonly id: string,
    private readonly listener: DrawListener,
  ) {}

  get jobId(): string | null {
    return this.job;
  }

  get isOver(): boolean {
    return this.closed;
  }

  /** Null before the server has taken the job: then there is nothing to resume, the request goes out again. */
  get resumePoint(): ResumePoint | null {
    return this.job === null ? null : { job: this.job, epoch: this.epoch, after: this.after };
  }

  onText(frame: JobFrame): void {
    if (this.closed) return;
    if (frame.t === 'accepted') {
      this.job = frame.job;
      this.onEpoch(frame.epoch);
    }
    // Equal is no repetition: one entry of the history may come as several frames.
    if (frame.seq < this.after) return;
    if (!carriesBytes(frame)) this.after = frame.seq;
    for (const event of this.eventsOf(frame)) this.emit(event);
  }

  /** Another epoch is another history: the server was restarted, its numbering starts again. */
  onEpoch(epoch: string): void {
    if (epoch !== this.epoch) this.after = 0;
    this.epoch = epoch;
  }

  onBinary(frame: BinaryFrame): void {
    if (this.closed) return;
    this.after = Math.max(this.after, frame.seq);
    if (!frame.final) {
      if (this.finished.has(frame.image)) return;
      this.emit({ type: 'preview', image: frame.image, partial: this.partial, rect: this.partial === null ? frame.rect : null, mime: frame.mime, bytes: frame.bytes });
      return;
    }
    if (this.finished.has(frame.image)) return;
    this.finished.add(frame.image);
    this.emit({ type: 'image', image: frame.image, seed: this.seeds.get(frame.image) ?? null, mime: frame.mime, bytes: frame.bytes });
  }

  /** Events that no frame brings: lost and found connections, a refusal before there is a job. */
  emit(event: DrawEvent): void {
    if (this.closed) return;
    this.closed = isLast(event);
    this.listener(event);
  }

  /** The server has forgotten the job: it is to be asked for again. Finished pictures stay finished. */
  restart(): void {
    this.job = null;
    this.epoch = '';
    this.after = 0;
  }

  private eventsOf(frame: JobFrame): DrawEvent[] {
    switch (frame.t) {
      case 'accepted':
        return [{ type: 'accepted', position: frame.position, etaMs: frame.eta_ms, seeds: frame.seeds }];
      case 'queued':
        return [{ type: 'queued', position: frame.position, etaMs: frame.eta_ms }];
      case 'started':
        return [{ type: 'started', batchSize: frame.batch_size, ts: frame.ts }];
      case 'progress':
        return [{ type: 'progress', fraction: frame.fraction, etaMs: frame.eta_ms }];
      case 'tokens':
        return [{ type: 'tokens', image: frame.image, from: frame.from, to: frame.to, total: frame.total ?? null, accepted: frame.accepted ?? null, ts: frame.ts }];
      case 'preview':
        this.partial = frame.kind === 'full' ? frame.n : null;
        return [];
      case 'image':
        this.seeds.set(frame.image, frame.seed);
        return [];
      case 'completed':
        return [{ type: 'completed', usage: frame.usage, timings: frame.timings }];
      case 'failed':
        return [{ type: 'failed', error: frame.error }];
      case 'cancelled':
        return [{ type: 'cancelled' }];
    }
  }
}

/** Announcements: the entry is complete only with the binary frame that follows. */
function carriesBytes(frame: JobFrame): boolean {
  return frame.t === 'preview' || frame.t === 'image';
}
