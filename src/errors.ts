import type { NativeErrorCode } from './engine/native-types.js';

/**
 * Every error a caller can be answered with. A code is stable from where the error is found to where it is
 * answered; status and type follow from the code, so no route decides them again (docs/api.md, Errors).
 */
const CODES = {
  invalid_value: { status: 400, type: 'invalid_request_error' },
  missing_required_parameter: { status: 400, type: 'invalid_request_error' },
  unsupported_value: { status: 400, type: 'invalid_request_error' },
  string_above_max_length: { status: 400, type: 'invalid_request_error' },
  invalid_json: { status: 400, type: 'invalid_request_error' },
  /** The picture alone needs more KV blocks than the server has. */
  request_too_large: { status: 400, type: 'invalid_request_error' },
  /** A page of another site; browsers open sockets for any page. */
  origin_not_allowed: { status: 403, type: 'permission_error' },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  /** Never existed, or finished longer ago than it is kept. */
  job_not_found: { status: 404, type: 'invalid_request_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  method_not_allowed: { status: 405, type: 'invalid_request_error' },
  /** The client did not send its whole request in time. */
  request_timeout: { status: 408, type: 'invalid_request_error' },
  /** An idempotency key with another body than the first time. Clients retry 409 unless told not to. */
  idempotency_conflict: { status: 409, type: 'invalid_request_error' },
  request_body_too_large: { status: 413, type: 'invalid_request_error' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error' },
  /** The route is for WebSockets. */
  upgrade_required: { status: 426, type: 'invalid_request_error' },
  header_fields_too_large: { status: 431, type: 'invalid_request_error' },
  queue_full: { status: 429, type: 'rate_limit_error' },
  /** It would not be done by the time until which the client waits. */
  deadline_exceeded: { status: 429, type: 'rate_limit_error' },
  /** The client went away: nobody reads this answer, the status only shows in logs and metrics. */
  cancelled: { status: 499, type: 'invalid_request_error' },
  internal_error: { status: 500, type: 'server_error' },
  engine_error: { status: 500, type: 'server_error' },
  out_of_memory: { status: 500, type: 'server_error' },
  /** The worker died while drawing it, and again when it was drawn anew. */
  worker_lost: { status: 500, type: 'server_error' },
  model_loading: { status: 503, type: 'server_error' },
  model_unavailable: { status: 503, type: 'server_error' },
  draining: { status: 503, type: 'server_error' },
} as const satisfies Record<string, { status: number; type: string }>;

export type ErrorCode = keyof typeof CODES;

export interface ErrorDetails {
  /** Name of the request field at fault. */
  param?: string;
  /** Seconds after which a retry makes sense; never more than 60 (clients obey longer ones and hang). */
  retryAfterSeconds?: number;
  /** `false`: repeating the same request cannot help, although the status is one clients retry. */
  shouldRetry?: boolean;
  /** What may have been meant; absent or empty: nobody knows. */
  suggestions?: readonly Suggestion[];
  cause?: unknown;
}

/** A prompt that would be understood, and what it means in words for people to choose by. */
export interface Suggestion {
  prompt: string;
  name: string;
}

/** What a client sees under `error`; the first four keys are required by the OpenAI schema. */
export interface ErrorEnvelope {
  error: { message: string; type: string; param: string | null; code: string | null; suggestions?: Suggestion[] };
}

/** An expected refusal or a failure with a stable code. Anything else that is thrown is a bug and answers 500. */
export class ServerError extends Error {
  override readonly name: string = 'ServerError';
  readonly code: ErrorCode;
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly retryAfterSeconds: number | null;
  readonly shouldRetry: boolean | null;
  readonly suggestions: readonly Suggestion[];

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = CODES[code].status;
    this.type = CODES[code].type;
    this.param = details.param ?? null;
    this.retryAfterSeconds = details.retryAfterSeconds === undefined ? null : Math.min(60, details.retryAfterSeconds);
    this.shouldRetry = details.shouldRetry ?? null;
    this.suggestions = details.suggestions ?? [];
  }
}

/** A failure of the native engine, with its own code kept for those who decide what to do next. */
export class EngineError extends ServerError {
  override readonly name = 'EngineError';
  readonly nativeCode: NativeErrorCode;
  /** The engine's own words: for logs and command lines, not for clients. */
  readonly detail: string;

  constructor(nativeCode: NativeErrorCode, detail: string, cause?: unknown) {
    super(...answerOf(nativeCode, detail), { cause, ...(nativeCode === 'out_of_memory' ? { shouldRetry: false } : {}) });
    this.nativeCode = nativeCode;
    this.detail = detail;
  }
}

/** What the client is told. Plans and paths are our own business. */
function answerOf(nativeCode: NativeErrorCode, message: string): [ErrorCode, string] {
  switch (nativeCode) {
    case 'out_of_memory':
      return ['out_of_memory', 'The engine ran out of memory while drawing this picture.'];
    case 'closed':
      return ['draining', 'The server is shutting down.'];
    case 'invalid_model':
      return ['model_unavailable', message];
    case 'invalid_argument':
    case 'invalid_plan':
    case 'internal':
      return ['engine_error', 'The engine failed while drawing this picture.'];
  }
}

const NATIVE_CODES: ReadonlySet<string> = new Set<NativeErrorCode>([
  'invalid_argument',
  'invalid_plan',
  'invalid_model',
  'out_of_memory',
  'closed',
  'internal',
]);

/** Wraps whatever the addon threw; an unknown shape becomes `internal` rather than passing through untyped. */
export function toEngineError(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'internal';
  return new EngineError(NATIVE_CODES.has(code) ? (code as NativeErrorCode) : 'internal', message, thrown);
}

/** Any thrown value as an error that can be answered; unexpected ones lose their message (it may name internals). */
export function toServerError(thrown: unknown): ServerError {
  if (thrown instanceof ServerError) return thrown;
  return new ServerError('internal_error', 'The server had an error while processing your request.', { cause: thrown });
}

/** For people at a terminal: all that is known. */
export function describeError(thrown: unknown): string {
  if (thrown instanceof EngineError) return `${thrown.detail} (${thrown.nativeCode})`;
  return thrown instanceof Error ? thrown.message : String(thrown);
}

export function envelopeOf({ message, type, param, code, suggestions }: ServerError): ErrorEnvelope {
  return { error: { message, type, param, code, ...(suggestions.length === 0 ? {} : { suggestions: [...suggestions] }) } };
}
