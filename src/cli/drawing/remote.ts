import type { ImageStreamEvent } from '../../gateway/schemas.js';
import { CommandError } from '../command.js';
import type { Draw, DrawingEvent } from './drawing.js';
import { readServerSentEvents } from './sse.js';

interface ErrorBody {
  error?: { message?: string; code?: string | null; param?: string | null };
}

/** Draws on a server, by its stream of events (docs/api.md). `key` for servers behind a proxy that wants one. */
export function remoteDraw(url: string, key: string | undefined): Draw {
  return async function* draw(request, signal): AsyncGenerator<DrawingEvent> {
    const reply = await send(url, key, { ...request, stream: true, stream_options: { include_progress: true } }, signal);
    let images = 0;
    for await (const { event, data } of readServerSentEvents(reply.body!)) {
      if (event === 'error') throw new CommandError(describe(JSON.parse(data) as ErrorBody, 'the server failed'));
      const parsed = JSON.parse(data) as ImageStreamEvent;
      if (parsed.type === 'image_generation.progress') yield { kind: 'progress', fraction: parsed.fraction, etaMs: parsed.eta_ms };
      if (parsed.type !== 'image_generation.completed') continue;
      images += 1;
      yield { kind: 'image', index: parsed.index ?? 0, seed: parsed.seed, bytes: Buffer.from(parsed.b64_json, 'base64') };
    }
    if (images < (request.n ?? 1)) throw new CommandError(`${url}: the connection ended after ${images} of ${request.n ?? 1} pictures`);
  };
}

/** GET or POST of JSON; anything but success is a `CommandError` with the server's own words. */
export async function send(url: string, key: string | undefined, body: object | null, signal: AbortSignal, path = '/v1/images/generations'): Promise<Response> {
  const headers = { ...(body === null ? {} : { 'content-type': 'application/json' }), ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) };
  let reply: Response;
  try {
    reply = await fetch(`${url}${path}`, { method: body === null ? 'GET' : 'POST', headers, signal, ...(body === null ? {} : { body: JSON.stringify(body) }) });
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new CommandError(`${url} cannot be reached: ${cause}`);
  }
  if (reply.ok) return reply;
  const answer = await reply.text();
  throw new CommandError(`${url}: ${describe(parseOrNothing(answer), `status ${reply.status}`)}`);
}

function parseOrNothing(text: string): ErrorBody {
  try {
    return JSON.parse(text) as ErrorBody;
  } catch {
    return {};
  }
}

function describe({ error }: ErrorBody, fallback: string): string {
  if (error?.message === undefined) return fallback;
  return error.code == null ? error.message : `${error.message} (${error.code})`;
}
