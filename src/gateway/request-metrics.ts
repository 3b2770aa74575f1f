import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ErrorCode } from '../errors.js';
import type { JobMetrics, RequestOutcome } from '../metrics/jobs.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Model of a request for pictures once it is known; never what the client typed. */
    modelLabel: string;
    /** Answered as a stream of events. */
    streamed: boolean;
    /** Already in the metrics. */
    counted: boolean;
  }
}

/** Counts every request of `app`'s routes once: when its last byte is out, or when its client is gone before that. */
export function countRequests(app: FastifyInstance, metrics: JobMetrics, api: string): void {
  const count = (request: FastifyRequest, outcome: RequestOutcome, seconds: number): void => {
    if (request.counted) return;
    request.counted = true;
    metrics.request(request.modelLabel, api, outcome, seconds, request.streamed);
  };
  app.decorateRequest('modelLabel', 'unknown');
  app.decorateRequest('streamed', false);
  app.decorateRequest('counted', false);
  app.addHook('onRequest', async (request, reply) => {
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) count(request, 'cancelled', reply.elapsedTime / 1000);
    });
  });
  app.addHook('onResponse', async (request, reply) => {
    count(request, outcomeOf(request.errorCode), reply.elapsedTime / 1000);
  });
}

export function outcomeOf(code: ErrorCode | null): RequestOutcome {
  switch (code) {
    case null:
      return 'ok';
    case 'cancelled':
      return 'cancelled';
    case 'queue_full':
    case 'deadline_exceeded':
    case 'request_too_large':
    case 'model_loading':
    case 'model_unavailable':
    case 'draining':
      return 'rejected';
    case 'internal_error':
    case 'engine_error':
    case 'out_of_memory':
    case 'worker_lost':
      return 'error';
    default:
      return 'client_error';
  }
}
