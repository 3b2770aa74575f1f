import { envelopeOf } from '../errors.js';
import type { JobHandle } from '../jobs/backend.js';
import type { LogEntry } from '../jobs/event-log.js';
import type { JobPreview } from '../jobs/job.js';
import { CONTENT_TYPES } from '../image/encode.js';
import { timingsOf, toBase64, usageOf } from './image-response.js';
import { describeJob } from './job-view.js';
import { LogCursor } from './log-cursor.js';
import type { Frame, FrameSource } from './log-stream.js';
import { progressFields } from './progress-fields.js';

/** Where a client left off: null from the beginning. */
export type Resume = { epoch: string; seq: number } | null;

/** A job's own events, each with its id, from where the client left off (docs/api.md, Jobs). */
export function jobFrames(job: JobHandle, resume: Resume, onPreview: (preview: JobPreview) => void): FrameSource {
  const known = resume !== null && resume.epoch === job.log.epoch;
  const after = known ? resume.seq : 0;
  const cursor = new LogCursor(job, after);
  const preface = resume === null ? [] : gapFrames(job, after, known);
  return () => {
    const first = preface.shift();
    if (first !== undefined) return first;
    const news = cursor.next();
    if (news === null) return null;
    if (news.kind === 'event') {
      const { event } = news.entry;
      if (event.kind === 'preview') onPreview(event.preview);
      return frameOf(job, news.entry);
    }
    return frame(job, news, 'progress', progressFields(news.progress));
  };
}

/** Said only to clients that come back: who just came has missed nothing that it knew of. */
function gapFrames(job: JobHandle, after: number, known: boolean): Frame[] {
  const { gap } = job.log.since(after);
  if (known && gap === null) return [];
  const { from, to } = gap ?? { from: 1, to: 0 };
  // No id: a client that is cut off here resumes from where it was.
  return [
    { event: 'gap', data: { job: job.id, epoch: job.log.epoch, from, to } },
    { event: 'snapshot', data: describeJob(job) },
  ];
}

function frameOf(job: JobHandle, entry: LogEntry): Frame {
  const { event } = entry;
  switch (event.kind) {
    case 'queued':
      return frame(job, entry, 'queued', { position: job.position });
    case 'started':
      return frame(job, entry, 'started', { worker: event.worker, batch_size: event.batchSize });
    case 'tokens':
      throw new Error('token events are told as progress');
    case 'preview':
      return frame(job, entry, 'preview', previewFields(event.preview));
    case 'image': {
      const { index, seed, format, bytes } = event.image;
      return frame(job, entry, 'image', { image: index, seed, mime: CONTENT_TYPES[format], final: true, b64_json: toBase64(bytes) });
    }
    case 'succeeded':
      return frame(job, entry, 'completed', { usage: usageOf(job.request, event.result.images), timings: timingsOf(event.result.timings) });
    case 'failed':
      return frame(job, entry, 'failed', envelopeOf(event.error));
    case 'cancelled':
      return frame(job, entry, 'cancelled', { reason: event.reason });
  }
}

function previewFields({ image, index, kind, format, width, height, rect, bytes }: JobPreview): object {
  return { image, n: index, kind, mime: CONTENT_TYPES[format], w: width, h: height, rect, b64_json: toBase64(bytes) };
}

function frame({ id, log }: JobHandle, { seq, ts }: { seq: number; ts: number }, event: string, fields: object): Frame {
  return { event, id: `${log.epoch}-${seq}`, data: { job: id, seq, ts, ...fields } };
}
