import { envelopeOf, ServerError } from '../errors.js';
import type { JobHandle } from '../jobs/backend.js';
import type { LogEntry } from '../jobs/event-log.js';
import type { JobImage, JobPreview, JobTimings } from '../jobs/job.js';
import { formatSize } from '../model/sizes.js';
import { timingsOf, toBase64, usageOf } from './image-response.js';
import { LogCursor } from './log-cursor.js';
import type { Frame, FrameSource } from './log-stream.js';
import { progressFields } from './progress-fields.js';
import type { ImageStreamEvent } from './schemas.js';

/** A job as OpenAI's events of `stream: true` (docs/api.md): partial pictures, and each picture once it is done. */
export function imageFrames(job: JobHandle, includeProgress: boolean, onPreview: (preview: JobPreview) => void): FrameSource {
  const cursor = new LogCursor(job);
  // The last picture waits for the job's end, which comes right behind it: its event carries the times of all.
  let last: LogEntry | null = null;
  const finished: JobImage[] = [];
  const frameOf = (entry: LogEntry): Frame | null => {
    const { event } = entry;
    switch (event.kind) {
      case 'preview':
        if (event.preview.kind !== 'full') return null;
        onPreview(event.preview);
        return partial(job, event.preview, entry.ts);
      case 'image':
        finished.push(event.image);
        if (finished.length < job.request.seeds.length) return completed(job, finished, entry.ts, null);
        last = entry;
        return null;
      case 'succeeded':
        return last === null ? null : completed(job, finished, last.ts, event.result.timings);
      case 'failed':
        return failure(event.error);
      case 'cancelled':
        return failure(new ServerError('cancelled', 'The job was cancelled.'));
      default:
        return null;
    }
  };
  return () => {
    for (let news = cursor.next(); news !== null; news = cursor.next()) {
      if (news.kind === 'event') {
        const frame = frameOf(news.entry);
        if (frame !== null) return frame;
      } else if (includeProgress) {
        return frame({ type: 'image_generation.progress', ...progressFields(news.progress) });
      }
    }
    return null;
  };
}

function partial(job: JobHandle, preview: JobPreview, ts: number): Frame {
  return frame({ type: 'image_generation.partial_image', partial_image_index: preview.index, ...common(job, preview, preview.image, ts) });
}

/** The newest of the finished pictures. */
function completed(job: JobHandle, finished: readonly JobImage[], ts: number, timings: JobTimings | null): Frame {
  const image = finished.at(-1)!;
  return frame({
    type: 'image_generation.completed',
    ...common(job, image, image.index, ts),
    seed: image.seed,
    usage: usageOf(job.request, finished),
    ...(timings === null ? {} : { timings: timingsOf(timings) }),
  });
}

type Picture = Pick<JobImage, 'bytes' | 'width' | 'height'>;

function common({ request }: JobHandle, picture: Picture, index: number, ts: number) {
  return {
    b64_json: toBase64(picture.bytes),
    created_at: Math.floor(ts / 1000),
    size: formatSize(picture),
    quality: request.quality,
    background: 'opaque' as const,
    output_format: request.format,
    ...(request.seeds.length > 1 ? { index } : {}),
  };
}

function frame(event: ImageStreamEvent): Frame {
  return { event: event.type, data: event };
}

/** After the 200 the status is gone; OpenAI's clients throw on this event. */
function failure(error: ServerError): Frame {
  return { event: 'error', data: envelopeOf(error), error };
}
