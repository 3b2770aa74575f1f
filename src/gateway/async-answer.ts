import type { FastifyReply, FastifyRequest } from 'fastify';
import type { JobHandle } from '../jobs/backend.js';
import { jsonAnswer } from './json-answer.js';
import { describeJob } from './job-view.js';
import type { ImagesResponse, JobDescription } from './schemas.js';

/**
 * `Prefer: respond-async`: 202 and where to ask, or the answer itself if it is there within the time the client would
 * rather wait. Either way the job outlives the connection.
 */
export async function asyncAnswer(request: FastifyRequest, reply: FastifyReply, job: JobHandle, waitSeconds: number): Promise<ImagesResponse | JobDescription> {
  if (waitSeconds > 0 && (await endsWithin(job, waitSeconds))) return jsonAnswer(request, reply, job, 0);
  void reply.status(202).header('location', `/v1/jobs/${job.id}`).header('preference-applied', 'respond-async');
  return describeJob(job);
}

async function endsWithin(job: JobHandle, seconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, seconds * 1000, false);
    timer.unref();
  });
  const ended = job.result.then(() => true, () => true);
  return Promise.race([ended, timeout]).finally(() => {
    clearTimeout(timer);
  });
}
