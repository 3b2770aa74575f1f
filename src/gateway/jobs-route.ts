import type { FastifyInstance } from 'fastify';
import { ServerError } from '../errors.js';
import type { JobHandle } from '../jobs/backend.js';
import type { GatewayDeps, Serving } from './deps.js';
import { jobFrames, type Resume } from './job-frames.js';
import { describeJob, describeJobWithResult } from './job-view.js';
import { LogStream } from './log-stream.js';
import { previewCounter } from './preview-count.js';
import { readLastEventId } from './request-headers.js';
import { sendEvents } from './sse-answer.js';

type ById = { Params: { id: string } };

/** What a browser's EventSource waits before it comes back. */
const RECONNECT = 'retry: 1000\n\n';

/** /v1/jobs/{id}: ask for a job, follow it, end it. Whoever looks does not keep it alive. */
export function jobsRoute(app: FastifyInstance, { serving, metrics, patience }: GatewayDeps, done: () => void): void {
  app.get<ById>('/v1/jobs/:id', async (request) => describeJobWithResult(findJob(serving, request.params.id)));

  app.post<ById>('/v1/jobs/:id/cancel', async (request) => {
    const job = findJob(serving, request.params.id);
    job.cancel('api');
    return describeJob(job);
  });

  // Without a HEAD route: it would make all events only to throw them away.
  app.get<ById>('/v1/jobs/:id/events', { exposeHeadRoute: false }, async (request, reply) => {
    const job = findJob(serving, request.params.id);
    const resume = checkResume(job, readLastEventId(request.headers));
    // The one status that makes an EventSource stop: it has seen the end.
    if (resume !== null && job.log.closed && resume.epoch === job.log.epoch && resume.seq === job.log.lastSeq) return reply.status(204).send();
    const onPreview = previewCounter(metrics.previews, 'sse', job.request.model, () => reply.elapsedTime / 1000);
    return sendEvents(reply, new LogStream(job.log, jobFrames(job, resume, onPreview), patience, RECONNECT));
  });
  done();
}

function findJob({ backend }: Serving, id: string): JobHandle {
  const job = backend?.get(id) ?? null;
  if (job === null) throw new ServerError('job_not_found', 'There is no job with this id. Finished jobs are kept for ten minutes.', { param: 'id' });
  return job;
}

function checkResume(job: JobHandle, resume: Resume): Resume {
  if (resume !== null && resume.epoch === job.log.epoch && resume.seq > job.log.lastSeq) {
    throw new ServerError('invalid_value', 'The Last-Event-ID header names an event that did not happen yet.', { param: 'Last-Event-ID' });
  }
  return resume;
}
