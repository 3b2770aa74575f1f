import type { ImagesRequest } from '../../gateway/schemas.js';

/** What a command sees while pictures are drawn, here or on a server. */
export type DrawingEvent =
  | { kind: 'progress'; fraction: number; etaMs: number | null }
  | { kind: 'image'; index: number; seed: number; bytes: Uint8Array };

/** Draws one request; ends after its last picture. Rejects with a `CommandError` or `ServerError`. */
export type Draw = (request: ImagesRequest, signal: AbortSignal) => AsyncIterable<DrawingEvent>;
