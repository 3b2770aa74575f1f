import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServerError } from '../errors.js';
import type { GatewayDeps } from './deps.js';
import type { PageFile } from './page-files.js';

/** Nothing inline and nothing from elsewhere; text never becomes markup or script. `blob:`, `data:`: pictures as they arrive. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ');

/** The playground: one entry at `/`, and files whose names change with their content. */
export function pageRoute(app: FastifyInstance, { page }: GatewayDeps, done: () => void): void {
  for (const [url, file] of page) {
    app.get(url, async (request, reply) => answer(request, reply, file));
  }
  if (!page.has('/')) {
    app.get('/', async () => {
      throw new ServerError('not_found', 'The playground is not built; run "npm run build:web". The API works without it.');
    });
  }
  done();
}

function answer(request: FastifyRequest, reply: FastifyReply, file: PageFile): FastifyReply {
  void reply.headers({
    'content-security-policy': POLICY,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    etag: file.etag,
    'cache-control': file.immutable ? 'public, max-age=31536000, immutable' : 'no-cache',
  });
  if (request.headers['if-none-match'] === file.etag) return reply.code(304).send();
  return reply.type(file.contentType).send(file.bytes);
}
