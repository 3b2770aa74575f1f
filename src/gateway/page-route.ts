import type { FastifyInstance } from 'fastify';
import type { GatewayDeps } from './deps.js';

/** The page at `/`: one file, nothing from elsewhere, and told so to the browser. */
const POLICY = "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

export function pageRoute(app: FastifyInstance, { page }: GatewayDeps, done: () => void): void {
  app.get('/', async (_request, reply) => {
    void reply.type('text/html; charset=utf-8').header('content-security-policy', POLICY).header('cache-control', 'no-cache');
    return page;
  });
  done();
}
