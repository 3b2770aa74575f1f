import type { FastifyReply, FastifyRequest } from 'fastify';
import { toServerError } from '../errors.js';
import type { JobHandle } from '../jobs/backend.js';
import { onConnectionGone } from './attach.js';
import type { GatewayDeps } from './deps.js';
import { imageFrames } from './image-frames.js';
import { LogStream } from './log-stream.js';
import { previewCounter } from './preview-count.js';
import type { ImagesRequest } from './schemas.js';

/**
 * `stream: true`. The status goes out with the first event, or with the first heartbeat: a job that fails before that is
 * answered like any other, with a status that clients act on.
 */
export async function sseAnswer(request: FastifyRequest<{ Body: ImagesRequest }>, reply: FastifyReply, job: JobHandle, { metrics, patience }: GatewayDeps): Promise<FastifyReply> {
  request.streamed = true;
  const includeProgress = request.body.stream_options?.include_progress === true;
  const onPreview = previewCounter(metrics.previews, 'sse', job.request.model, () => reply.elapsedTime / 1000);
  const stream = new LogStream(job.log, imageFrames(job, includeProgress, onPreview), patience);
  // After the 200 a failure is an event of the stream; for the metrics it is the outcome all the same.
  job.result.catch((thrown: unknown) => {
    request.errorCode ??= toServerError(thrown).code;
  });
  await stream.begun;
  return sendEvents(reply, stream);
}

export function sendEvents(reply: FastifyReply, stream: LogStream): FastifyReply {
  onConnectionGone(reply, () => stream.destroy());
  // Proxies that collect a body before they pass it on would turn live events into one lump.
  void reply.header('content-type', 'text/event-stream; charset=utf-8').header('cache-control', 'no-cache, no-transform').header('x-accel-buffering', 'no');
  return reply.send(stream);
}
