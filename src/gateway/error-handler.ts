import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { envelopeOf, ServerError, toServerError, type ErrorCode } from '../errors.js';
import { fromValidation } from './validation-error.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Code of the error this request was answered with, for metrics. */
    errorCode: ErrorCode | null;
  }
}

/** Every answer that is not a success has the OpenAI envelope, whoever found the error (docs/api.md, Errors). */
export const errorHandler = fp((app: FastifyInstance, _options: object, done: () => void) => {
  const routes = collectRoutes(app);
  app.decorateRequest('errorCode', null);
  app.setErrorHandler((thrown: FastifyError, request, reply) => {
    answer(fromFastify(thrown), request, reply);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? '/';
    const allowed = routes.filter((route) => route.pattern.test(path)).map((route) => route.method);
    if (allowed.length > 0) {
      void reply.header('allow', [...new Set(allowed)].join(', '));
      answer(new ServerError('method_not_allowed', `${request.method} is not allowed here; allowed: ${allowed.join(', ')}.`), request, reply);
    } else {
      answer(new ServerError('not_found', `Unknown request URL: ${request.method} ${path}.`), request, reply);
    }
  });
  done();
});

export function answer(error: ServerError, request: FastifyRequest, reply: FastifyReply): void {
  request.errorCode = error.code;
  // A refusal (loading, draining, full) is an answer, not an event; what went wrong is written down once, here.
  if (error.status === 500) request.log.error({ err: error, cause: error.cause }, error.message);
  if (error.retryAfterSeconds !== null) void reply.header('retry-after', error.retryAfterSeconds);
  if (error.shouldRetry !== null) void reply.header('x-should-retry', String(error.shouldRetry));
  void reply.status(error.status).type('application/json; charset=utf-8').send(envelopeOf(error));
}

/** Fastify's own errors by their codes; ours pass; anything else is a bug and answers 500. */
function fromFastify(thrown: FastifyError): ServerError {
  if (thrown instanceof ServerError) return thrown;
  if (thrown.validation !== undefined) return fromValidation(thrown.validation[0]);
  switch (thrown.code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new ServerError('unsupported_media_type', 'The body must be sent as content-type application/json.');
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new ServerError('request_body_too_large', 'The request body is too large.');
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new ServerError('invalid_json', 'The request body is empty; a JSON object is expected.');
    default:
      // Syntax errors, forbidden keys, bad lengths and URLs: all the client's, all 400.
      if (thrown.statusCode === 400) return new ServerError('invalid_json', `The request cannot be read: ${thrown.message}`);
      return toServerError(thrown);
  }
}

/** Routes as they are registered, so that a wrong method can be told from a wrong path. */
function collectRoutes(app: FastifyInstance): { method: string; pattern: RegExp }[] {
  const routes: { method: string; pattern: RegExp }[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    const source = url.split('/').map((part) => (part.startsWith(':') ? '[^/]+' : part.replaceAll('.', '\\.')));
    for (const name of [method].flat()) routes.push({ method: name, pattern: new RegExp(`^${source.join('/')}$`) });
  });
  return routes;
}
