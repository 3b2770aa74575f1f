import { ServerError, envelopeOf, type ErrorEnvelope } from '../errors.js';
import type { JobHandle } from '../jobs/backend.js';
import { advance, fractionOf, startProgress } from '../jobs/progress.js';
import { toResponse } from './image-response.js';
import type { JobDescription } from './schemas.js';

/** What can be said of a job now, without its pictures. */
export function describeJob(job: JobHandle): JobDescription {
  return {
    id: job.id,
    object: 'image_generation.job',
    status: job.status,
    model: job.request.model,
    created_at: Math.floor(job.createdAt / 1000),
    queue_position: job.position,
    progress: progressOf(job),
    seeds: job.request.seeds,
    result: null,
    error: errorOf(job),
  };
}

/** The same with the pictures, once they are there. */
export async function describeJobWithResult(job: JobHandle): Promise<JobDescription> {
  const description = describeJob(job);
  return job.status === 'succeeded' ? { ...description, result: toResponse(job, await job.result) } : description;
}

function progressOf(job: JobHandle): number {
  let state = startProgress(job.request);
  for (const entry of job.log.since(0).entries) ({ state } = advance(state, entry));
  return fractionOf(state);
}

function errorOf(job: JobHandle): ErrorEnvelope['error'] | null {
  const last = job.log.since(job.log.lastSeq - 1).entries.at(-1)?.event;
  if (last?.kind === 'failed') return envelopeOf(last.error).error;
  if (last?.kind === 'cancelled') return envelopeOf(new ServerError('cancelled', 'The job was cancelled.')).error;
  return null;
}
