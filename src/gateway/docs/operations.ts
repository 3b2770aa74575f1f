import type { TSchema } from '@sinclair/typebox';
import { LIMITS } from '../schemas.js';
import { ClassListSchema, ErrorSchema, HealthSchema, ImagesResponseSchema, JobSchema, ModelListSchema, ModelSchema, ReadinessSchema, StreamEventSchema } from './answer-schemas.js';

/** What the documentation says of a route beyond the schema that its body is validated by. */
export interface Operation {
  tag: 'Pictures' | 'Jobs' | 'Models' | 'Operations';
  summary: string;
  description?: string;
  /** Header name → what it is for. */
  headers?: Readonly<Record<string, string>>;
  /** Path parameter → what it is. */
  params?: Readonly<Record<string, string>>;
  /** Status → what it means, and its content by type; none: no body. */
  answers: Readonly<Record<string, { description: string; content?: Readonly<Record<string, TSchema | null>> }>>;
}

const json = (schema: TSchema): Readonly<Record<string, TSchema>> => ({ 'application/json': schema });
const failure = (description: string): Operation['answers'][string] => ({ description, content: json(ErrorSchema) });

const JOB_ID = { id: 'Of the job: the x-job-id header, or the answer to "Prefer: respond-async".' };

/** By method and path. A test holds this list to the routes that exist. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'POST /v1/images/generations': {
    tag: 'Pictures',
    summary: 'Draw pictures from a prompt',
    description:
      "OpenAI's request and answers, with extra fields. null means absent; unknown fields are ignored. With \"stream\": true the answer is a stream of events; " +
      'closing the connection cancels the job, unless it was asked for with an Idempotency-Key (kept for 30 s) or "Prefer: respond-async".',
    headers: {
      'Idempotency-Key': `Same key and body: the same job, for 24 hours. At most ${LIMITS.idempotencyKeyCharacters} printable characters.`,
      Prefer: 'respond-async: 202 and the job instead of waiting; wait=N: but wait N seconds first.',
      'x-stainless-timeout': 'Seconds the client waits; a queue that is longer answers 429 at once.',
      'x-stainless-retry-count': 'Above 0, an equal request of the same client is joined instead of drawn again.',
    },
    answers: {
      200: { description: 'The pictures; with "stream": true, events.', content: { ...json(ImagesResponseSchema), 'text/event-stream': StreamEventSchema } },
      202: { description: 'Accepted; follow the job ("Prefer: respond-async").', content: json(JobSchema) },
      400: failure('The request is wrong; param names the field.'),
      404: failure('No such model.'),
      408: failure('The request was not sent completely in time.'),
      409: failure('The Idempotency-Key was used with another body.'),
      413: failure('The body is too large.'),
      415: failure('The body is not JSON.'),
      429: failure('The queue is full, or longer than the client waits. See retry-after.'),
      500: failure('The picture could not be drawn.'),
      503: failure('Loading, or shutting down. See retry-after.'),
    },
  },
  'GET /v1/jobs/:id': {
    tag: 'Jobs',
    summary: 'Where a job is, and its pictures once they are there',
    params: JOB_ID,
    answers: { 200: { description: 'The job.', content: json(JobSchema) }, 404: failure('No such job; finished ones are kept for ten minutes.') },
  },
  'POST /v1/jobs/:id/cancel': {
    tag: 'Jobs',
    summary: 'End a job',
    description: 'Its place in the batch is free within one step. Does nothing to a job that has ended.',
    params: JOB_ID,
    answers: { 200: { description: 'The job, as it is now.', content: json(JobSchema) }, 404: failure('No such job.') },
  },
  'GET /v1/jobs/:id/events': {
    tag: 'Jobs',
    summary: 'Follow a job',
    description: "Server-sent events from the job's beginning, or from Last-Event-ID on: queued, started, progress, preview, image, completed, failed, cancelled; gap and snapshot where history was trimmed.",
    headers: { 'Last-Event-ID': 'The id of the last event that was seen: <epoch>-<seq>.' },
    params: JOB_ID,
    answers: {
      200: { description: 'Events, each with its id.', content: { 'text/event-stream': null } },
      204: { description: 'The last event was seen already: there is nothing to follow.' },
      400: failure('Last-Event-ID is no id of this stream.'),
      404: failure('No such job.'),
    },
  },
  'GET /v1/stream': {
    tag: 'Pictures',
    summary: 'WebSocket ardiff.v1',
    description: 'Draw, follow, resume and cancel over one socket. Its frames are described in /docs/asyncapi.json.',
    headers: { 'Sec-WebSocket-Protocol': 'ardiff.v1', Origin: 'Of a page: the server itself, or one that it was told to allow.' },
    answers: { 101: { description: 'The connection is a WebSocket from here on.' }, 400: failure('The subprotocol is not offered.'), 403: failure('This origin may not connect.'), 426: failure('Not a WebSocket handshake.') },
  },
  'GET /v1/models': { tag: 'Models', summary: 'What can be drawn with', answers: { 200: { description: "OpenAI's list, with more to each model.", content: json(ModelListSchema) } } },
  'GET /v1/models/:id': {
    tag: 'Models',
    summary: 'One model: sizes, defaults, limits',
    params: { id: 'Name of the model.' },
    answers: { 200: { description: 'The model.', content: json(ModelSchema) }, 404: failure('No such model.') },
  },
  'GET /v1/models/:id/classes': {
    tag: 'Models',
    summary: 'What a model of prompt_mode "class" draws',
    description: 'A prompt for it is the name of a class or one of its synonyms, where no other class has it too, its synset, or its index. Case, accents, hyphens and spacing do not count.',
    params: { id: 'Of the model.' },
    answers: { 200: { description: 'All classes.', content: json(ClassListSchema) }, 404: failure('No such model, or one that draws captions.') },
  },
  'GET /healthz': { tag: 'Operations', summary: 'Liveness', answers: { 200: { description: 'The process lives.', content: json(HealthSchema) } } },
  'GET /readyz': {
    tag: 'Operations',
    summary: 'Readiness',
    answers: { 200: { description: 'The model can draw.', content: json(ReadinessSchema) }, 503: { description: 'Loading, shutting down, or failed.', content: json(ReadinessSchema) } },
  },
  'GET /metrics': { tag: 'Operations', summary: 'Prometheus metrics', description: 'docs/operations.md lists them.', answers: { 200: { description: 'Text exposition format.', content: { 'text/plain': null } } } },
};
