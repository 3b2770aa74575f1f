import { createHash } from 'node:crypto';
import { ServerError } from '../errors.js';

/**
 * Tells whether two requests of one caller are the same. The caller is in it, so that nobody joins the job of somebody
 * else, and only as a hash: credentials live no longer than their request.
 */
export function fingerprintOf(scope: string, body: unknown): string {
  return sha256(`${scope}\n${canonicalJson(body)}`);
}

/** Of the caller, by the credentials it sent; all who send none are one. */
export function scopeOf(authorization: string | undefined): string {
  return sha256(authorization ?? '');
}

/** Deeper than any body with a meaning; unknown fields may hold anything, and this recurses. */
const MAX_DEPTH = 64;

/** Equal for equal values: keys in order, whatever the client's order and white space were. */
function canonicalJson(value: unknown, depth = 0): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (depth === MAX_DEPTH) throw new ServerError('invalid_json', `The request body is nested more than ${MAX_DEPTH} levels deep.`);
  if (Array.isArray(value)) return `[${value.map((part) => canonicalJson(part, depth + 1)).join()}]`;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, part]) => `${JSON.stringify(key)}:${canonicalJson(part, depth + 1)}`).join()}}`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
