import type { FastifyReply, FastifyRequest } from 'fastify';

/**
 * Keeps a client that waits for JSON from giving up: Node's fetch closes a connection on which no response header came
 * for 300 s, whatever its own timeout is. `103 Early Hints` counts as one and leaves the final status open. The hint is
 * a true one: where the job can be asked for. Stops by itself when the answer is out or the client gone.
 */
export function sendEarlyHints(request: FastifyRequest, reply: FastifyReply, jobId: string, intervalMs: number): void {
  // HTTP/1.0 has no interim answers: such a client would take one for the answer.
  if (intervalMs <= 0 || request.raw.httpVersion !== '1.1') return;
  const { raw } = reply;
  const timer = setInterval(() => {
    if (raw.headersSent || raw.destroyed) clearInterval(timer);
    else raw.writeEarlyHints({ link: `</v1/jobs/${jobId}>; rel=status` });
  }, intervalMs);
  timer.unref();
  raw.once('close', () => {
    clearInterval(timer);
  });
}
