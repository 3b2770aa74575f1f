import type { IncomingHttpHeaders } from 'node:http';
import { ServerError } from '../errors.js';
import { LIMITS } from './schemas.js';

/** What the headers of a request for pictures ask for, checked. */
export interface RequestHeaders {
  idempotencyKey: string | null;
  /** The client repeats itself: its first answer was lost or an error. */
  isRetry: boolean;
  /** Seconds the client waits for the answer; null: it does not say. */
  timeoutSeconds: number | null;
  prefer: Preference;
}

/** RFC 7240. `waitSeconds`: how long the client would rather wait than be told to come back. */
export interface Preference {
  respondAsync: boolean;
  waitSeconds: number;
}

/** The longest wait worth holding a connection for; clients give up on silent ones after 300 s. */
const MAX_WAIT_SECONDS = 120;

export function readHeaders(headers: IncomingHttpHeaders): RequestHeaders {
  return {
    idempotencyKey: idempotencyKey(single(headers, 'idempotency-key')),
    isRetry: number(headers, 'x-stainless-retry-count', /^\d{1,6}$/) > 0,
    timeoutSeconds: headers['x-stainless-timeout'] === undefined ? null : number(headers, 'x-stainless-timeout', /^\d{1,9}(\.\d{1,9})?$/),
    prefer: preference(single(headers, 'prefer')),
  };
}

/** `<epoch>-<seq>` as it was in the `id` of an event; null: from the beginning. */
export function readLastEventId(headers: IncomingHttpHeaders): { epoch: string; seq: number } | null {
  const text = single(headers, 'last-event-id');
  // Browsers send what they saw last; an empty id is how a stream says "none".
  if (text === undefined || text === '') return null;
  const match = /^([\w.:-]{1,128})-(\d{1,15})$/.exec(text);
  if (match === null) throw invalid('Last-Event-ID', 'is not an id of this stream');
  return { epoch: match[1]!, seq: Number(match[2]) };
}

function idempotencyKey(key: string | undefined): string | null {
  if (key === undefined) return null;
  if (!/^[\x21-\x7e]+$/.test(key)) throw invalid('Idempotency-Key', 'must be printable ASCII without spaces');
  if (key.length > LIMITS.idempotencyKeyCharacters) throw invalid('Idempotency-Key', `is longer than ${LIMITS.idempotencyKeyCharacters} characters`);
  return key;
}

/** Preferences that are not ours are ignored, as RFC 7240 asks; ours must make sense. */
function preference(text: string | undefined): Preference {
  const parts = new Map((text ?? '').split(/[,;]/).map((part) => split(part.trim())));
  const respondAsync = parts.get('respond-async');
  if (respondAsync !== undefined && respondAsync !== '') throw invalid('Prefer', 'gives respond-async a value; it takes none');
  const wait = parts.get('wait');
  if (wait !== undefined && !/^\d{1,9}$/.test(wait)) throw invalid('Prefer', 'has a wait that is not a whole number of seconds');
  return { respondAsync: respondAsync !== undefined, waitSeconds: Math.min(MAX_WAIT_SECONDS, Number(wait ?? 0)) };
}

function split(part: string): [string, string] {
  const [name = '', value = ''] = part.split('=', 2);
  return [name.trim().toLowerCase(), value.trim().replace(/^"(.*)"$/, '$1')];
}

function number(headers: IncomingHttpHeaders, name: string, pattern: RegExp): number {
  const text = single(headers, name);
  if (text === undefined) return 0;
  if (!pattern.test(text)) throw invalid(name, 'is not a number');
  return Number(text);
}

/** Node joins repeated headers; a few it keeps apart. */
function single(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

function invalid(header: string, problem: string): ServerError {
  return new ServerError('invalid_value', `The ${header} header ${problem}.`, { param: header });
}
