import type { JobEvent, JobImage, JobPreview, JobRequest, JobResult } from './job.js';
import type { WireEvent } from './ipc.js';
import { fromWireError } from './wire-error.js';

/** How often a job may be drawn before the worker's death is blamed on it. */
const MAX_ATTEMPTS = 2;

/** How far watchers have seen one picture. */
interface HighWater {
  tokens: number;
  /** Previews of each kind so far; the next one gets this index. */
  previews: Record<JobPreview['kind'], number>;
  /** Rows of the picture's pixels that previews have shown. */
  rows: number;
  image: JobImage | null;
}

/**
 * What of a job has reached its watchers, over all workers that drew at it. A worker that dies is followed by another
 * which draws the unfinished pictures from their first token, to the same bytes. What it tells again is dropped here:
 * progress never runs backwards.
 */
export class Delivery {
  private readonly pictures: HighWater[];
  /** Index in the job of each picture of the current attempt. */
  private indices: number[] = [];
  private sentAt: number;
  private hasStarted = false;
  /** The current worker has begun to draw. */
  isDrawing = false;
  private lostAttempts = 0;

  constructor(
    private readonly request: JobRequest,
    private readonly submittedAt: number,
  ) {
    this.sentAt = submittedAt;
    this.pictures = request.seeds.map(() => ({ tokens: 0, previews: { full: 0, rows: 0 }, rows: 0, image: null }));
  }

  /** The job as the next worker gets it: the pictures that are not there yet. */
  attempt(now: number): JobRequest {
    const { seeds } = this.request;
    this.sentAt = now;
    this.isDrawing = false;
    this.indices = seeds.map((_, index) => index).filter((index) => this.pictures[index]!.image === null);
    // All pictures came through and the end did not: it is told by drawing one of them again.
    if (this.indices.length === 0) this.indices = [0];
    return { ...this.request, seeds: this.indices.map((index) => seeds[index]!) };
  }

  /** The worker is gone, and this job may be why. False: it is not to be given to another one. */
  blame(): boolean {
    this.lostAttempts += 1;
    return this.lostAttempts < MAX_ATTEMPTS;
  }

  /** By some worker, once. */
  get wasStarted(): boolean {
    return this.hasStarted;
  }

  /** Drawing was begun before: giving it to a worker again repeats work. */
  get isRepeated(): boolean {
    return this.lostAttempts > 0;
  }

  /** The event as watchers see it, or null when they have seen it. */
  accept(event: WireEvent): JobEvent | null {
    switch (event.kind) {
      case 'queued':
        return null;
      case 'started':
        return this.started(event);
      case 'tokens':
        return this.tokens(event);
      case 'preview':
        return this.preview(event.preview);
      case 'image':
        return this.image(event.image);
      case 'succeeded':
        return { kind: 'succeeded', result: this.result(event.result) };
      case 'failed':
        return { kind: 'failed', error: fromWireError(event.error) };
      case 'cancelled':
        return event;
    }
  }

  private started(event: JobEvent & { kind: 'started' }): JobEvent | null {
    this.isDrawing = true;
    if (this.hasStarted) return null;
    this.hasStarted = true;
    return event;
  }

  /** Replayed steps need not draw the same number of tokens each; of a step half seen, the new half is told. */
  private tokens(event: JobEvent & { kind: 'tokens' }): JobEvent | null {
    const [image, seen] = this.lookUp(event.image);
    const from = Math.max(event.from, seen.tokens);
    if (event.to <= from) return null;
    seen.tokens = event.to;
    const { accepted } = event;
    return { ...event, image, from, ...(accepted === undefined ? {} : { accepted: accepted.slice(from - event.from) }) };
  }

  /** Partial images come in a fixed order. Strips may be cut differently, so they count by the rows they show. */
  private preview(preview: JobPreview): JobEvent | null {
    const [image, seen] = this.lookUp(preview.image);
    const bottom = preview.rect.y + preview.rect.height;
    const isNew = preview.kind === 'full' ? preview.index >= seen.previews.full : bottom > seen.rows;
    if (!isNew) return null;
    if (preview.kind === 'rows') seen.rows = bottom;
    const index = seen.previews[preview.kind];
    seen.previews[preview.kind] += 1;
    return { kind: 'preview', preview: { ...preview, image, index, bytes: ownBytes(preview.bytes) } };
  }

  private image(drawn: JobImage): JobEvent | null {
    const [index, seen] = this.lookUp(drawn.index);
    if (seen.image !== null) return null;
    seen.image = { ...drawn, index, bytes: ownBytes(drawn.bytes) };
    return { kind: 'image', image: seen.image };
  }

  /** The worker's times begin when it got the job: what went before was waiting, or work that was lost. */
  private result(result: Omit<JobResult, 'images'>): JobResult {
    const before = (this.sentAt - this.submittedAt) / 1000;
    const { timings } = result;
    const part = this.lostAttempts > 0 ? { draw: timings.draw + before } : { queue: timings.queue + before };
    const images = this.pictures.flatMap(({ image }) => image ?? []);
    return { ...result, images, timings: { ...timings, ...part, total: timings.total + before } };
  }

  private lookUp(attemptIndex: number): [number, HighWater] {
    const index = this.indices[attemptIndex];
    const seen = index === undefined ? undefined : this.pictures[index];
    if (index === undefined || seen === undefined) throw new Error(`the worker told of picture ${attemptIndex}, the job has ${this.indices.length}`);
    return [index, seen];
  }
}

/**
 * What comes out of a channel are views into its read buffers, 64 KiB each; a picture that is kept for minutes would
 * keep all of that.
 */
function ownBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
