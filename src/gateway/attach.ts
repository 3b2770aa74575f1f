import type { FastifyReply } from 'fastify';
import type { JobHandle, OnDisconnect } from '../jobs/backend.js';

/**
 * The job lives as long as the answer's connection does, or as its policy says. A closed socket is the only cancel signal
 * a plain client gives.
 */
export function attachConnection(reply: FastifyReply, job: JobHandle, policy: OnDisconnect): void {
  const leave = job.attach(policy);
  // Its client comes back for it, whatever others that joined the job do.
  if (policy === 'detach') return;
  // It may be gone already: the body was read before the job was there.
  if (reply.raw.destroyed) leave();
  else reply.raw.once('close', leave);
}
