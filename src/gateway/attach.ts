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
  onConnectionGone(reply, leave);
}

/**
 * Calls `gone` once when the answer is out or its connection is closed. Of an answer that waits behind another one of the
 * same connection Node tells nothing when that closes, so the connection itself is watched as well.
 */
export function onConnectionGone(reply: FastifyReply, gone: () => void): void {
  const { socket } = reply.request.raw;
  // It may be gone already: the body was read before the job was there.
  if (reply.raw.destroyed || socket.destroyed) {
    gone();
    return;
  }
  const once = (): void => {
    socket.off('close', once);
    reply.raw.off('close', once);
    gone();
  };
  socket.once('close', once);
  reply.raw.once('close', once);
}
