import type { FastifyReply, FastifyRequest } from 'fastify';
import type { JobHandle } from '../jobs/backend.js';
import { sendEarlyHints } from './early-hints.js';
import { serverTiming, toResponse } from './image-response.js';
import type { ImagesResponse } from './schemas.js';

/** The whole answer once all pictures are there; `earlyHintsMs`: 0 for none. */
export async function jsonAnswer(request: FastifyRequest, reply: FastifyReply, job: JobHandle, earlyHintsMs: number): Promise<ImagesResponse> {
  sendEarlyHints(request, reply, job.id, earlyHintsMs);
  const result = await job.result;
  void reply.header('server-timing', serverTiming(result.timings));
  return toResponse(job, result);
}
