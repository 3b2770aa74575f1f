import { Type, type Static, type TSchema } from '@sinclair/typebox';
import type { ErrorEnvelope } from '../errors.js';

/** Every limit of the HTTP face (docs/api.md). `null` means absent and is removed before these apply. */
export const LIMITS = {
  promptCharacters: 32_000,
  promptTokens: 512,
  images: 10,
  /** More is never better, and one request must not hold a slot for hours. */
  timesteps: 200,
  guidanceScale: 30,
  seed: Number.MAX_SAFE_INTEGER,
  partialImages: 3,
  userCharacters: 512,
  idempotencyKeyCharacters: 255,
  bodyBytes: 256 * 1024,
} as const;

const literals = <T extends string>(...values: T[]) => Type.Unsafe<T>({ type: 'string', enum: values });
const optional = <T extends TSchema>(schema: T) => Type.Optional(schema);
const text = () => Type.String({ maxLength: LIMITS.promptCharacters });

export const AccelerationSchema = Type.Object({
  mode: optional(literals('auto', 'off', 'exact', 'relaxed')),
  few_step: optional(Type.Unsafe<0 | 1 | 2 | 4>({ type: 'integer', enum: [0, 1, 2, 4] })),
  max_draft_tokens: optional(Type.Integer({ minimum: 0, maximum: 64 })),
});

export const StreamOptionsSchema = Type.Object({
  /** `image_generation.progress` events. OpenAI's clients hand unknown events to the caller's loop, so they must be asked for. */
  include_progress: optional(Type.Boolean()),
});

/** POST /v1/images/generations: OpenAI's fields, then ours. Fields we do not know are left alone, as clients expect. */
export const ImagesRequestSchema = Type.Object({
  prompt: Type.String({ minLength: 1, maxLength: LIMITS.promptCharacters }),
  model: optional(Type.String({ minLength: 1, maxLength: 256 })),
  n: optional(Type.Integer({ minimum: 1, maximum: LIMITS.images })),
  size: optional(Type.String({ maxLength: 32 })),
  quality: optional(literals('standard', 'hd', 'low', 'medium', 'high', 'auto')),
  response_format: optional(literals('url', 'b64_json')),
  output_format: optional(literals('png', 'jpeg', 'webp')),
  output_compression: optional(Type.Integer({ minimum: 0, maximum: 100 })),
  background: optional(literals('transparent', 'opaque', 'auto')),
  moderation: optional(literals('low', 'auto')),
  stream: optional(Type.Boolean()),
  partial_images: optional(Type.Integer({ minimum: 0, maximum: LIMITS.partialImages })),
  stream_options: optional(StreamOptionsSchema),
  style: optional(literals('vivid', 'natural')),
  user: optional(Type.String({ maxLength: LIMITS.userCharacters })),
  seed: optional(Type.Integer({ minimum: 0, maximum: LIMITS.seed })),
  negative_prompt: optional(text()),
  guidance_scale: optional(Type.Number({ minimum: 1, maximum: LIMITS.guidanceScale })),
  num_inference_steps: optional(Type.Integer({ minimum: 1, maximum: LIMITS.timesteps })),
  acceleration: optional(AccelerationSchema),
});
export type ImagesRequest = Static<typeof ImagesRequestSchema>;

export interface ImagesResponse {
  created: number;
  data: { b64_json: string; seed: number }[];
  background: 'opaque';
  output_format: 'png' | 'jpeg' | 'webp';
  size: string;
  quality: 'low' | 'medium' | 'high';
  model: string;
  usage: ImagesUsage;
  timings: ImagesTimings;
}

/** Counted, not estimated: the caption's row once, and every drawn token of the request. */
export interface ImagesUsage {
  total_tokens: number;
  input_tokens: number;
  output_tokens: number;
  input_tokens_details: { text_tokens: number; image_tokens: number };
  output_tokens_details: { image_tokens: number; text_tokens: number };
  acceleration: AccelerationUsage;
}

/** Milliseconds. */
export interface ImagesTimings {
  queue_ms: number;
  draw_ms: number;
  encode_ms: number;
  total_ms: number;
}

/** What every event of a streamed picture says about it. */
interface ImageEventFields {
  b64_json: string;
  created_at: number;
  size: string;
  quality: 'low' | 'medium' | 'high';
  background: 'opaque';
  output_format: 'png' | 'jpeg' | 'webp';
  /** Which picture, where the request asked for more than one. */
  index?: number;
}

/** Events of `stream: true`, by OpenAI's schema; `index`, `seed`, `timings` and the progress event are ours. */
export type ImageStreamEvent =
  | ({ type: 'image_generation.partial_image'; partial_image_index: number } & ImageEventFields)
  | ({ type: 'image_generation.completed'; seed: number; usage: ImagesUsage; timings?: ImagesTimings } & ImageEventFields)
  | ({ type: 'image_generation.progress' } & ProgressFields);

export interface ProgressFields {
  stage: 'prefill' | 'ar' | 'encode';
  step: number;
  total: number;
  /** 0 … 1 over all stages and pictures; never falls. */
  fraction: number;
  eta_ms: number | null;
  /** The picture that moved. */
  image?: number;
}

/** GET /v1/jobs/{id}. */
export interface JobDescription {
  id: string;
  object: 'image_generation.job';
  status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  model: string;
  created_at: number;
  /** Jobs ahead of it that have not started. */
  queue_position: number;
  /** 0 … 1. */
  progress: number;
  seeds: number[];
  /** The answer that POST would have given; null until it is there. */
  result: ImagesResponse | null;
  error: ErrorEnvelope['error'] | null;
}

/** What was done, whatever was asked for: counted over the pictures that are finished. */
export interface AccelerationUsage {
  /** How tokens were drafted; `off`: not at all. */
  mode: 'off' | 'exact' | 'relaxed';
  /** Jumps of the few-step head per token; 0: the model's own sampler. */
  few_step: 0 | 1 | 2 | 4;
  rounds: number;
  draft_tokens: number;
  accepted_tokens: number;
  /** Rounds whose drafting the entropy gate ended. */
  gate_stops: number;
  /** A server that runs for throughput drew pictures by few steps without drafts, as many shared the batch: their bytes depend on that. */
  throughput?: true;
}

export interface AccelerationChoice {
  mode: 'off' | 'exact' | 'relaxed';
  few_step: 0 | 1 | 2 | 4;
}

/** One that `acceleration` of a request may name. */
export interface CalibratedAcceleration extends AccelerationChoice {
  /** Of one picture at a time, against `off`, where it was calibrated. */
  speedup: number;
  /** It draws as well as the model's own sampler; only such are chosen by `auto`. */
  passed: boolean;
  /** 0: it does not draft. */
  max_draft_tokens: number;
}

export interface ModelDescription {
  id: string;
  object: 'model';
  created: number;
  owned_by: string;
  /** `class`: a prompt names one of the model's classes, and nothing else is understood. */
  prompt_mode: 'text' | 'class';
  /** Of captions; absent where the prompt is a class. */
  max_prompt_tokens?: number;
  /** That a prompt may name, listed by /v1/models/{id}/classes; absent where it is a caption. */
  num_classes?: number;
  /** Over the whole picture, all but the last of them its previews; absent where a picture is drawn token by token. */
  passes?: number;
  sizes: string[];
  default_size: string;
  /** Whether finished rows can be shown while a picture is drawn: the folder has a preview.json. */
  row_previews: boolean;
  defaults: { num_inference_steps: number; guidance_scale: number; negative_prompt: string; sampler: string };
  quality_presets: Record<'low' | 'medium' | 'high', { num_inference_steps: number; acceleration: AccelerationChoice }>;
  /** Ways of drawing that are calibrated, fastest first; empty where the folder has no accelerator. */
  accelerations: readonly CalibratedAcceleration[];
  /** Pixels per side of the square that one image token draws. */
  pixels_per_token: number;
  limits: { n: number; num_inference_steps: number; guidance_scale: number; seed: number; prompt_characters: number };
  /** Suffixes for captions, and prompts the model draws well; empty where the folder says nothing. */
  styles: readonly { name: string; suffix: string }[];
  example_prompts: readonly string[];
  /** What it is drawn on now, a worker each; absent where no server was asked. */
  devices?: readonly { id: string; name: string; memory_bytes: number }[];
}

/** GET /v1/models/{id}/classes. */
export interface ClassListDescription {
  object: 'list';
  data: readonly ClassDescription[];
}

/** A prompt may be the name or a synonym, where these are one class's alone, the synset or the index. */
export interface ClassDescription {
  index: number;
  name: string;
  synonyms: readonly string[];
  synset: string | null;
  group: string | null;
}
