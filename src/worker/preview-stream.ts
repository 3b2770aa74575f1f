import type { DecodedImage } from '../engine/native-types.js';
import { encodeImage, type RgbImage } from '../image/encode.js';
import { paintUnfinished, stripOf } from '../image/preview.js';
import type { JobPreview, JobRequest } from '../jobs/job.js';
import type { LatentRgb } from '../model/latent-rgb.js';

/** What of the model its previews depend on. */
export interface PreviewModel {
  latentRgb: LatentRgb | null;
  latentPatchSize: number;
  /** Pixels per side of one image token. */
  pixelFactor: number;
}

export interface PreviewSink {
  /** Nobody looks any more: what is left need not be encoded. */
  isClosed(): boolean;
  emit(preview: JobPreview): void;
  /** Wall time that one preview took here: painting and encoding. */
  spent(seconds: number): void;
}

/** Finished grid rows as their tokens [begin, end). */
interface RowSpan {
  begin: number;
  end: number;
  parts: Float32Array[];
}

/**
 * The previews of one picture, encoded one after the other, so that they are seen in the order they were drawn. Rows
 * that are finished while another preview is being encoded share a strip: a busy machine gives fewer and taller strips
 * instead of a queue.
 */
export class PreviewStream {
  private tail: Promise<void> = Promise.resolve();
  /** The strip at the end of the queue, to which rows may still be added. */
  private open: RowSpan | null = null;
  private readonly shown = { full: 0, rows: 0 };

  constructor(
    private readonly image: number,
    private readonly request: JobRequest,
    private readonly model: PreviewModel,
    private readonly sink: PreviewSink,
  ) {}

  /** Settles when it was shown; rejects when it could not be encoded. */
  partial(drawn: DecodedImage): Promise<void> {
    this.open = null;
    const { format, compression, gridWidth } = this.request;
    const { width, height } = drawn;
    // A pass draws the whole picture, and every pass anew.
    const finished = this.request.prompt === 'class' ? height : (drawn.tokens / gridWidth) * this.model.pixelFactor;
    const rect = { x: 0, y: 0, width, height };
    return this.enqueue(() => this.show('full', () => paintUnfinished(drawn, finished), { format, compression, rect }));
  }

  rows(begin: number, end: number, tokens: Float32Array): Promise<void> {
    if (this.open !== null) {
      this.open.end = end;
      this.open.parts.push(tokens);
      return this.tail;
    }
    const span: RowSpan = { begin, end, parts: [tokens] };
    this.open = span;
    return this.enqueue(() => {
      if (this.open === span) this.open = null;
      return this.showStrip(span);
    });
  }

  /** Settles when everything so far was shown: the moment for the picture itself. */
  settled(): Promise<void> {
    return this.tail;
  }

  private enqueue(task: () => Promise<void>): Promise<void> {
    this.tail = this.tail.then(async () => {
      if (!this.sink.isClosed()) await task();
    });
    return this.tail;
  }

  private showStrip({ begin, end, parts }: RowSpan): Promise<void> {
    const { latentRgb, latentPatchSize, pixelFactor } = this.model;
    if (latentRgb === null) throw new Error('tokens were read of a model without preview.json');
    const { gridWidth } = this.request;
    const rect = {
      x: 0,
      y: (begin / gridWidth) * pixelFactor,
      width: gridWidth * pixelFactor,
      height: ((end - begin) / gridWidth) * pixelFactor,
    };
    return this.show('rows', () => stripOf(concat(parts), gridWidth, latentPatchSize, latentRgb), { format: 'png', compression: 100, rect });
  }

  private async show(
    kind: JobPreview['kind'],
    paint: () => RgbImage,
    { format, compression, rect }: { format: JobPreview['format']; compression: number; rect: JobPreview['rect'] },
  ): Promise<void> {
    const begin = performance.now();
    const pixels = paint();
    const bytes = await encodeImage(pixels, format, compression);
    this.sink.spent((performance.now() - begin) / 1000);
    if (this.sink.isClosed()) return;
    const { width, height } = pixels;
    this.sink.emit({ image: this.image, index: this.shown[kind], kind, format, width, height, rect, bytes });
    this.shown[kind] += 1;
  }
}

function concat(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
