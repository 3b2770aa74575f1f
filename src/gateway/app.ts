import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import fastify, { LogController, type FastifyInstance } from 'fastify';
import { envelopeOf, ServerError } from '../errors.js';
import type { GatewayDeps, LogLevel } from './deps.js';
import { apiDocs } from './docs/api-docs.js';
import { errorHandler } from './error-handler.js';
import { headers, requestId } from './headers.js';
import { imagesRoute } from './images-route.js';
import { jobsRoute } from './jobs-route.js';
import { modelsRoute } from './models-route.js';
import { opsRoutes } from './ops-routes.js';
import { pageRoute } from './page-route.js';
import { LIMITS } from './schemas.js';
import { streamRoute } from './stream/stream-route.js';

/** The HTTP face as a list of plugins. It does not listen, so tests inject into it. */
export async function buildApp(deps: GatewayDeps, logLevel: LogLevel): Promise<FastifyInstance> {
  const app = fastify({
    logger: { level: logLevel },
    // One line per request for people is the metrics' job; the log keeps what needs reading.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: LIMITS.bodyBytes,
    genReqId: requestId,
    requestIdHeader: false,
    requestTimeout: deps.patience.requestTimeoutMs,
    // How often Node looks for requests that are late. Of the two timeouts it takes the longer one for whole requests.
    http: { connectionsCheckingInterval: Math.min(5000, deps.patience.requestTimeoutMs), headersTimeout: deps.patience.requestTimeoutMs },
    // While draining, our own 503 with the envelope is sent instead.
    return503OnClosing: false,
    // A body is what it says: no "1" for 1, no silently dropped keys, no defaults by the validator.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    // A URL that cannot be decoded fails before there is a route; hooks and error handler do not run for it.
    frameworkErrors: (error, request, reply) => {
      reply.hijack();
      reply.raw.writeHead(400, { 'content-type': 'application/json; charset=utf-8', 'x-request-id': request.id });
      reply.raw.end(JSON.stringify(envelopeOf(new ServerError('invalid_value', `The URL cannot be read: ${error.message}`))));
    },
    clientErrorHandler: answerBrokenHttp,
  });
  // Bodies are JSON; Fastify would hand text on to the validator as a string.
  app.removeContentTypeParser('text/plain');
  await app.register(errorHandler);
  await app.register(headers, { metrics: deps.metrics.http });
  // Before the routes: it sees those that come after it.
  await app.register(apiDocs);
  await app.register(imagesRoute, deps);
  await app.register(jobsRoute, deps);
  await app.register(streamRoute, deps);
  await app.register(modelsRoute, deps);
  await app.register(opsRoutes, deps);
  await app.register(pageRoute, deps);
  return app;
}

/**
 * Stops listening and lets answers under way go out for up to `lingerMs`. Then all sockets are closed: those that
 * a client opened ahead of need and never used count as busy to Node, and would be waited for.
 */
export async function closeApp(app: FastifyInstance, lingerMs: number): Promise<void> {
  const timer = setTimeout(() => {
    app.server.closeAllConnections();
  }, lingerMs);
  await app.close();
  clearTimeout(timer);
}

/** Bytes that are no HTTP never reach a route; they still get the envelope. */
function answerBrokenHttp(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const answer = brokenHttpError(error.code);
  const body = JSON.stringify(envelopeOf(answer));
  socket.end(
    `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? 'Error'}\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

function brokenHttpError(code: string | undefined): ServerError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new ServerError('header_fields_too_large', 'The request headers are too large.');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ServerError('request_timeout', 'The request was not sent completely in time.');
    default:
      return new ServerError('invalid_value', 'The request is not valid HTTP.');
  }
}
