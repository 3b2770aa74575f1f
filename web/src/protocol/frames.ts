/** The frames of `ardiff.v1` (docs/api.md) as this page speaks them. Pure: bytes and text in, data out. */

/** Body of POST /v1/images/generations; the same in a `generate` frame. */
export interface ImagesRequest {
  prompt: string;
  model?: string;
  n?: number;
  size?: string;
  seed?: number;
  negative_prompt?: string;
  guidance_scale?: number;
  num_inference_steps?: number;
  acceleration?: { mode: AccelerationMode; few_step: number };
  /** Whole pictures on the way, of each. */
  partial_images?: number;
}

export type AccelerationMode = 'off' | 'exact' | 'relaxed';

export type ClientFrame =
  | { t: 'hello'; resume: ResumePoint[]; preview: { format: 'png'; max_px: number; min_interval_ms: number }; window: number }
  | { t: 'generate'; id: string; idempotency_key: string; on_disconnect: { grace_ms: number }; request: ImagesRequest }
  | { t: 'cancel'; job: string; reason?: string }
  | { t: 'ack'; job: string; seq: number }
  | { t: 'ping' };

/** Where a job's history is to go on after a lost connection: behind the last entry seen. */
export interface ResumePoint {
  job: string;
  epoch: string;
  after: number;
}

export interface ApiError {
  message: string;
  type: string;
  param: string | null;
  code: string | null;
  /** Prompts that the model would understand. */
  suggestions?: Suggestion[];
}

export interface Suggestion {
  prompt: string;
  /** For people to choose by. */
  name: string;
}

/** Part of the finished picture, in its pixels. */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Usage {
  total_tokens: number;
  input_tokens: number;
  output_tokens: number;
  acceleration?: Acceleration;
}

export interface Acceleration {
  mode: string;
  few_step: number;
  rounds: number;
  draft_tokens: number;
  accepted_tokens: number;
  gate_stops: number;
  /** Drawn in the way of a crowded server. */
  throughput?: true;
}

/** Milliseconds. */
export interface Timings {
  queue_ms?: number;
  draw_ms?: number;
  encode_ms?: number;
  total_ms?: number;
}

export type Stage = 'text_encode' | 'prefill' | 'ar' | 'diffusion' | 'vae' | 'encode';

interface OfJob {
  job: string;
  seq: number;
  /** Milliseconds since 1970, by the server's clock. */
  ts: number;
}

export type ServerFrame =
  | { t: 'welcome'; session: string; heartbeat_ms: number }
  | ({ t: 'accepted'; id: string; epoch: string; position: number; eta_ms: number | null; seeds: number[] } & OfJob)
  | ({ t: 'queued'; position: number; eta_ms: number | null } & OfJob)
  | ({ t: 'started'; worker: string; batch_size: number } & OfJob)
  | ({ t: 'progress'; stage: Stage; step: number; total: number; fraction: number; eta_ms: number | null; image?: number } & OfJob)
  | ({ t: 'tokens'; image: number; from: number; to: number; total?: number; accepted?: boolean[] } & OfJob)
  | ({ t: 'preview'; image: number; n: number; kind: 'full' | 'rows'; rect?: Rect } & OfJob)
  | ({ t: 'image'; image: number; seed: number; mime: string } & OfJob)
  | ({ t: 'completed'; usage: Usage; timings: Timings } & OfJob)
  | ({ t: 'failed'; error: ApiError; at_step?: number } & OfJob)
  | ({ t: 'cancelled'; error?: ApiError; at_step?: number } & OfJob)
  /** The answer to a resume: the history that is told from here on. */
  | { t: 'subscribed'; job: string; epoch: string }
  | { t: 'gap'; job: string; epoch: string; from: number; to: number }
  | { t: 'draining'; reconnect_after_ms: number }
  | { t: 'pong' }
  /** A frame of ours that could not be obeyed: by `id` of the generate frame, or by job. */
  | { t: 'error'; error: ApiError; id?: string; job?: string };

/** A binary frame: picture bytes with their place. */
export interface BinaryFrame {
  job: string;
  seq: number;
  image: number;
  mime: string;
  final: boolean;
  /** Absent: the whole picture. */
  rect: Rect | null;
  bytes: Uint8Array<ArrayBuffer>;
}

const TYPES: ReadonlySet<string> = new Set<ServerFrame['t']>([
  'welcome', 'accepted', 'subscribed', 'queued', 'started', 'progress', 'tokens', 'preview', 'image',
  'completed', 'failed', 'cancelled', 'gap', 'draining', 'pong', 'error',
]);

/**
 * One text frame, or null for types of a later version, which are to be skipped. The server is ours and checked by
 * its own tests: fields are trusted once the type is known.
 */
export function parseTextFrame(text: string): ServerFrame | null {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || !('t' in value) || typeof value.t !== 'string') {
    throw new Error('a frame without a type');
  }
  return TYPES.has(value.t) ? (value as ServerFrame) : null;
}

/** ComfyUI's "preview with metadata". */
const PREVIEW_WITH_METADATA = 4;

/** `u32 BE 4 | u32 BE length | JSON | bytes`; null for other event types. The bytes are a view, not a copy. */
export function parseBinaryFrame(buffer: ArrayBuffer): BinaryFrame | null {
  if (buffer.byteLength < 8) throw new Error(`a binary frame of ${buffer.byteLength} bytes`);
  const view = new DataView(buffer);
  if (view.getUint32(0) !== PREVIEW_WITH_METADATA) return null;
  const length = view.getUint32(4);
  if (8 + length > buffer.byteLength) throw new Error('the metadata is longer than its frame');
  const meta = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length))) as BinaryMeta;
  return {
    job: meta.job,
    seq: meta.seq,
    image: meta.image,
    mime: meta.image_type,
    final: meta.final,
    rect: meta.rect ?? null,
    bytes: new Uint8Array(buffer, 8 + length),
  };
}

interface BinaryMeta {
  job: string;
  seq: number;
  image: number;
  image_type: string;
  final: boolean;
  rect?: Rect;
}
