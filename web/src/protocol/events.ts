import type { ApiError, Rect, Timings, Usage } from './frames.js';

/** Which way the pictures come. */
export type TransportName = 'socket' | 'sse' | 'http';

/** What happens to one drawing, whichever way it comes. `ts`: the server's clock in milliseconds, where the way has one. */
export type DrawEvent =
  | { type: 'accepted'; position: number | null; etaMs: number | null; seeds: number[] }
  | { type: 'queued'; position: number; etaMs: number | null }
  | { type: 'started'; batchSize: number; ts: number }
  | { type: 'progress'; fraction: number; etaMs: number | null }
  /** Image tokens [from, to) of `total` are drawn, or timesteps of all passes; `accepted`: which of them were drafts that the target took. */
  | { type: 'tokens'; image: number; from: number; to: number; total: number | null; accepted: boolean[] | null; ts: number | null }
  /** `rect` null: the whole picture with its unfinished part neutral, or what a pass drew; `partial` counts these from 0. */
  | { type: 'preview'; image: number; partial: number | null; rect: Rect | null; mime: string; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'image'; image: number; seed: number | null; mime: string; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'completed'; usage: Usage | null; timings: Timings | null }
  | { type: 'failed'; error: ApiError }
  | { type: 'cancelled' }
  /** The connection broke; the server goes on for the grace time. */
  | { type: 'interrupted' }
  | { type: 'resumed' };

export type DrawListener = (event: DrawEvent) => void;

/** A drawing under way. */
export interface Drawing {
  cancel(): void;
}

export function isLast(event: DrawEvent): boolean {
  return event.type === 'completed' || event.type === 'failed' || event.type === 'cancelled';
}

/** For failures that no server described. */
export function localError(code: string, message: string): ApiError {
  return { message, type: 'connection_error', param: null, code };
}
