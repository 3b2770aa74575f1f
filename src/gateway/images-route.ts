import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ServerError, type ErrorCode } from '../errors.js';
import type { JobHandle } from '../jobs/backend.js';
import type { JobResult } from '../jobs/job.js';
import type { JobMetrics, RequestOutcome } from '../metrics/jobs.js';
import { formatSize } from '../model/sizes.js';
import { admit, rejectByStatus, type Rejection } from './admission.js';
import type { GatewayDeps } from './deps.js';
import { prepareRequest, type PreparedRequest } from './image-request.js';
import { findModel } from './models-route.js';
import { ImagesRequestSchema, type ImagesRequest, type ImagesResponse } from './schemas.js';

const API = 'images.generations';

declare module 'fastify' {
  interface FastifyRequest {
    /** Model of an image request once it is known; never what the client typed. */
    modelLabel: string;
    /** Already in the metrics. */
    counted: boolean;
  }
}

/** POST /v1/images/generations: validated body → job → JSON. */
export function imagesRoute(app: FastifyInstance, deps: GatewayDeps, done: () => void): void {
  countRequests(app, deps.metrics.jobs);
  app.addHook('preValidation', async (request) => {
    request.body = withoutNulls(request.body);
  });
  app.post<{ Body: ImagesRequest }>('/v1/images/generations', { schema: { body: ImagesRequestSchema } }, async (request, reply) => {
    const prepared = prepare(request, deps);
    const handle = submit(prepared, deps);
    void reply.header('x-job-id', handle.id);
    // A closed socket is the only cancel signal a plain client gives; its slot is free with the next step.
    reply.raw.once('close', handle.attach('cancel'));
    const result = await handle.result;
    return toResponse(prepared, result);
  });
  done();
}

function prepare(request: FastifyRequest<{ Body: ImagesRequest }>, { serving, drawSeed, metrics }: GatewayDeps): PreparedRequest {
  const model = findModel(serving.models, request.body.model);
  request.modelLabel = model.manifest.id;
  refuse(rejectByStatus(serving.status), metrics.jobs);
  return prepareRequest(request.body, model, drawSeed);
}

function submit({ job }: PreparedRequest, { serving, metrics }: GatewayDeps): JobHandle {
  const { backend, status } = serving;
  if (backend === null) throw new ServerError('model_loading', 'The model is loading.', { retryAfterSeconds: 1 });
  refuse(admit({ status, queue: backend.queue, ...backend.capacityOf(job) }), metrics.jobs);
  const { job: handle } = backend.submit(job);
  return handle;
}

function refuse(rejection: Rejection | null, metrics: JobMetrics): void {
  if (rejection === null) return;
  metrics.rejected(rejection.reason);
  throw rejection.error;
}

/** `null` is legal for almost every field and means absent. */
function withoutNulls(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}

/** Token counts are real: the conditional row once, and every drawn token. */
function toResponse({ job, size, quality, textTokens, imageTokens }: PreparedRequest, { images, timings }: JobResult): ImagesResponse {
  const outputTokens = imageTokens * images.length;
  const ms = (seconds: number): number => Math.round(seconds * 1e5) / 100;
  return {
    created: Math.floor(Date.now() / 1000),
    data: images.map((image) => ({ b64_json: toBase64(image.bytes), seed: image.seed })),
    background: 'opaque',
    output_format: job.format,
    size: formatSize(size),
    quality,
    model: job.model,
    usage: {
      total_tokens: textTokens + outputTokens,
      input_tokens: textTokens,
      output_tokens: outputTokens,
      input_tokens_details: { text_tokens: textTokens, image_tokens: 0 },
      output_tokens_details: { image_tokens: outputTokens, text_tokens: 0 },
      acceleration: { mode: 'off', few_step: 0, rounds: 0, draft_tokens: 0, accepted_tokens: 0, gate_stops: 0 },
    },
    timings: { queue_ms: ms(timings.queue), draw_ms: ms(timings.draw), encode_ms: ms(timings.encode), total_ms: ms(timings.total) },
  };
}

function toBase64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}

/** Counts every request once: when its last byte is out, or when its client is gone before that. */
function countRequests(app: FastifyInstance, metrics: JobMetrics): void {
  const count = (request: FastifyRequest, outcome: RequestOutcome, seconds: number): void => {
    if (request.counted) return;
    request.counted = true;
    metrics.request(request.modelLabel, API, outcome, seconds);
  };
  app.decorateRequest('modelLabel', 'unknown');
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

function outcomeOf(code: ErrorCode | null): RequestOutcome {
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
