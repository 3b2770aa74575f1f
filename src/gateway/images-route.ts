import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ServerError } from '../errors.js';
import type { JobHandle, OnDisconnect } from '../jobs/backend.js';
import { asyncAnswer } from './async-answer.js';
import { attachConnection } from './attach.js';
import type { GatewayDeps } from './deps.js';
import { fingerprintOf, scopeOf } from './fingerprint.js';
import { prepareRequest } from './image-request.js';
import { jsonAnswer } from './json-answer.js';
import { findModel } from './models-route.js';
import { readHeaders, type RequestHeaders } from './request-headers.js';
import { countRequests } from './request-metrics.js';
import { ImagesRequestSchema, type ImagesRequest } from './schemas.js';
import { sseAnswer } from './sse-answer.js';
import { refuseUnlessServing, submitJob, type Submission } from './submit-job.js';
import { withoutNulls } from './without-nulls.js';

const API = 'images.generations';

type WithBody = FastifyRequest<{ Body: ImagesRequest }>;

/** POST /v1/images/generations: validated body → job → JSON, a stream of events, or 202 and where to ask. */
export function imagesRoute(app: FastifyInstance, deps: GatewayDeps, done: () => void): void {
  countRequests(app, deps.metrics.jobs, API);
  app.addHook('preValidation', async (request) => {
    request.body = withoutNulls(request.body);
  });
  app.post<{ Body: ImagesRequest }>('/v1/images/generations', { schema: { body: ImagesRequestSchema } }, async (request, reply) => {
    const headers = readHeaders(request.headers);
    const { job, joined } = submitJob(deps, prepare(request, headers, deps));
    void reply.header('x-job-id', job.id).header('x-queue-position', job.position);
    if (joined) void reply.header('idempotent-replayed', 'true');
    attachConnection(reply, job, policyOf(headers, deps));
    return answer(request, reply, job, headers, deps);
  });
  done();
}

function prepare(request: WithBody, headers: RequestHeaders, deps: GatewayDeps): Submission {
  const { body } = request;
  const model = findModel(deps.serving.models, body.model);
  request.modelLabel = model.manifest.id;
  refuseUnlessServing(deps);
  refuseContradictions(body, headers);
  const scope = scopeOf(request.headers.authorization);
  const { idempotencyKey, isRetry, timeoutSeconds } = headers;
  return {
    request: prepareRequest(body, model, deps.drawSeed),
    options: { fingerprint: fingerprintOf(scope, body), isRetry, ...(idempotencyKey === null ? {} : { idempotencyKey: `${scope}:${idempotencyKey}` }) },
    timeoutSeconds,
  };
}

function answer(request: WithBody, reply: FastifyReply, job: JobHandle, { prefer }: RequestHeaders, deps: GatewayDeps): Promise<unknown> {
  if (request.body.stream === true) return sseAnswer(request, reply, job, deps);
  if (prefer.respondAsync) return asyncAnswer(request, reply, job, prefer.waitSeconds);
  return jsonAnswer(request, reply, job, deps.patience.earlyHintsMs);
}

/** Who named a key comes back with it; who asked for a job comes back for it; anybody else is gone for good. */
function policyOf({ prefer, idempotencyKey }: RequestHeaders, { patience }: GatewayDeps): OnDisconnect {
  if (prefer.respondAsync) return 'detach';
  return idempotencyKey === null ? 'cancel' : { graceMs: patience.retryGraceMs };
}

/** Fields that need one another: said, never ignored. */
function refuseContradictions(body: ImagesRequest, { prefer }: RequestHeaders): void {
  const refuse = (param: string, message: string): never => {
    throw new ServerError('unsupported_value', message, { param });
  };
  if (body.stream === true) {
    if (prefer.respondAsync) refuse('stream', 'A stream cannot be combined with "Prefer: respond-async"; follow the job at /v1/jobs/{id}/events.');
    return;
  }
  if (body.stream_options !== undefined) refuse('stream_options', 'stream_options needs "stream": true.');
  if ((body.partial_images ?? 0) > 0 && !prefer.respondAsync) refuse('partial_images', 'Partial images need "stream": true or "Prefer: respond-async".');
}
