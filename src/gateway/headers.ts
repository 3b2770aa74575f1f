import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import fp from 'fastify-plugin';
import type { HttpMetrics } from '../metrics/http.js';

/** A caller's own id is kept when it is harmless in a log line; otherwise one is drawn. */
export function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : `req_${randomUUID()}`;
}

/** What every answer carries, and how long it took. */
export const headers = fp((app: FastifyInstance, { metrics }: { metrics: HttpMetrics }, done: () => void) => {
  app.addHook('onSend', async (request, reply) => {
    void reply.header('x-request-id', request.id);
    void reply.header('openai-processing-ms', String(Math.round(reply.elapsedTime)));
  });
  app.addHook('onResponse', async (request, reply) => {
    metrics.observe(request.method, request.routeOptions.url ?? 'none', reply.statusCode, reply.elapsedTime / 1000);
  });
  done();
});
