import { Type, type Static, type TSchema } from '@sinclair/typebox';
import { TimingsSchema, UsageSchema } from '../docs/answer-schemas.js';
import { ImagesRequestSchema, LIMITS } from '../schemas.js';

/** The subprotocol of GET /v1/stream. One text frame is one JSON object with its type in `t` (docs/streaming.md). */
export const SUBPROTOCOL = 'ardiff.v1';

export const STREAM_LIMITS = {
  /** A body and its frame around it. */
  frameBytes: LIMITS.bodyBytes + 4096,
  /** Jobs that one socket follows at once. */
  jobs: 256,
  idCharacters: 128,
  graceMs: 600_000,
  previewPx: 8192,
  window: 1024,
} as const;

const optional = <T extends TSchema>(schema: T) => Type.Optional(schema);
const id = () => Type.String({ minLength: 1, maxLength: STREAM_LIMITS.idCharacters });
const count = (maximum: number = Number.MAX_SAFE_INTEGER) => Type.Integer({ minimum: 0, maximum });

const ResumePointSchema = Type.Object({ job: id(), epoch: id(), after: count() });

/** Which previews a socket wants; without it there are none. */
export const PreviewWishSchema = Type.Object({
  format: optional(Type.Unsafe<'png'>({ type: 'string', enum: ['png'] })),
  /** Partial pictures with a longer side than this are left out. */
  max_px: optional(Type.Integer({ minimum: 1, maximum: STREAM_LIMITS.previewPx })),
  /** Between two partial pictures of one image; strips of rows are never left out for it. */
  min_interval_ms: optional(count(60_000)),
});

/** Frames of the client, by type. */
export const CLIENT_FRAMES = {
  hello: Type.Object({
    t: Type.Literal('hello'),
    /** Jobs that an earlier socket of this client followed. */
    resume: optional(Type.Array(ResumePointSchema, { maxItems: STREAM_LIMITS.jobs })),
    preview: optional(PreviewWishSchema),
    /** Previews that may be on their way without an `ack`; absent: any number. */
    window: optional(Type.Integer({ minimum: 1, maximum: STREAM_LIMITS.window })),
  }),
  generate: Type.Object({
    t: Type.Literal('generate'),
    /** The client's own name of it, until `accepted` tells the job's. */
    id: id(),
    idempotency_key: optional(Type.String({ minLength: 1, maxLength: LIMITS.idempotencyKeyCharacters, pattern: '^[\\x21-\\x7e]+$' })),
    /** What becomes of the job when this socket is gone; absent: 30 s of grace. */
    on_disconnect: optional(
      Type.Union([Type.Literal('cancel'), Type.Literal('detach'), Type.Object({ grace_ms: count(STREAM_LIMITS.graceMs) })]),
    ),
    request: ImagesRequestSchema,
  }),
  subscribe: Type.Object({ t: Type.Literal('subscribe'), job: id(), epoch: optional(id()), after: optional(count()) }),
  unsubscribe: Type.Object({ t: Type.Literal('unsubscribe'), job: id() }),
  cancel: Type.Object({ t: Type.Literal('cancel'), job: id(), reason: optional(Type.String({ maxLength: 256 })) }),
  ack: Type.Object({ t: Type.Literal('ack'), job: id(), seq: count() }),
  ping: Type.Object({ t: Type.Literal('ping') }),
} as const;

export type ClientFrameType = keyof typeof CLIENT_FRAMES;
export type ClientFrameOf<T extends ClientFrameType> = Static<(typeof CLIENT_FRAMES)[T]>;
export type ClientFrame = { [T in ClientFrameType]: ClientFrameOf<T> }[ClientFrameType];
export type PreviewWish = Static<typeof PreviewWishSchema>;

const ErrorSchema = Type.Object({
  message: Type.String(),
  type: Type.String(),
  param: Type.Union([Type.String(), Type.Null()]),
  code: Type.Union([Type.String(), Type.Null()]),
  suggestions: optional(Type.Array(Type.Object({ prompt: Type.String(), name: Type.String() }))),
});
const RectSchema = Type.Object({ x: count(), y: count(), width: count(), height: count() });
const eta = () => Type.Union([Type.Number(), Type.Null()]);
const ofJob = <T extends string, P extends Record<string, TSchema>>(t: T, fields: P) =>
  Type.Object({ t: Type.Literal(t), job: id(), seq: count(), /** Milliseconds since 1970. */ ts: Type.Number(), ...fields });

/** Frames of the server, by type. All of a job carry `job`, `seq` (of its log) and `ts`. */
export const SERVER_FRAMES = {
  welcome: Type.Object({
    t: Type.Literal('welcome'),
    session: id(),
    heartbeat_ms: Type.Integer(),
    limits: Type.Object({ frame_bytes: Type.Integer(), jobs: Type.Integer(), grace_ms: Type.Integer() }),
    models: Type.Array(Type.String()),
  }),
  accepted: ofJob('accepted', {
    id: id(),
    epoch: id(),
    position: count(),
    eta_ms: eta(),
    seeds: Type.Array(count()),
    /** The job was there before: a repeated idempotency key. */
    joined: Type.Boolean(),
  }),
  subscribed: ofJob('subscribed', { epoch: id(), status: Type.String() }),
  queued: ofJob('queued', { position: count(), eta_ms: eta() }),
  started: ofJob('started', { worker: Type.String(), batch_size: count() }),
  tokens: ofJob('tokens', { image: count(), from: count(), to: count(), total: count(), /** Per token, where the picture is drafted: it is a draft that the model accepted. */ accepted: optional(Type.Array(Type.Boolean())) }),
  progress: ofJob('progress', {
    stage: Type.Union([Type.Literal('prefill'), Type.Literal('ar'), Type.Literal('encode')]),
    step: count(),
    total: count(),
    fraction: Type.Number({ minimum: 0, maximum: 1 }),
    eta_ms: eta(),
    image: optional(count()),
  }),
  preview: ofJob('preview', {
    image: count(),
    n: count(),
    kind: Type.Union([Type.Literal('full'), Type.Literal('rows')]),
    bytes: count(),
    mime: Type.String(),
    w: count(),
    h: count(),
    rect: RectSchema,
  }),
  image: ofJob('image', { image: count(), seed: count(), bytes: count(), mime: Type.String(), w: count(), h: count(), final: Type.Literal(true) }),
  completed: ofJob('completed', { usage: UsageSchema, timings: TimingsSchema }),
  failed: ofJob('failed', { error: ErrorSchema, at_step: count() }),
  cancelled: ofJob('cancelled', { reason: Type.String(), error: ErrorSchema, at_step: count() }),
  gap: Type.Object({ t: Type.Literal('gap'), job: id(), epoch: id(), from: count(), to: count() }),
  snapshot: Type.Object({ t: Type.Literal('snapshot'), job: id(), status: Type.String(), progress: Type.Number(), queue_position: count() }),
  draining: Type.Object({ t: Type.Literal('draining'), reconnect_after_ms: count() }),
  pong: Type.Object({ t: Type.Literal('pong') }),
  /** A frame that could not be obeyed: by `id` of its generate, or by `job`; neither: it could not be read. */
  error: Type.Object({ t: Type.Literal('error'), error: ErrorSchema, id: optional(id()), job: optional(id()) }),
} as const;

export type ServerFrameType = keyof typeof SERVER_FRAMES;
export type ServerFrame = { [T in ServerFrameType]: Static<(typeof SERVER_FRAMES)[T]> }[ServerFrameType];
export type Rect = Static<typeof RectSchema>;
