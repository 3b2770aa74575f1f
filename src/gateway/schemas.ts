import { Type, type Static, type TSchema } from '@sinclair/typebox';

/** Every limit of the HTTP face (docs/api.md). `null` means absent and is removed before these apply. */
export const LIMITS = {
  promptCharacters: 32_000,
  promptTokens: 512,
  images: 10,
  /** More is never better, and one request must not hold a slot for hours. */
  timesteps: 200,
  guidanceScale: 30,
  seed: Number.MAX_SAFE_INTEGER,
  userCharacters: 512,
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
  partial_images: optional(Type.Integer({ minimum: 0, maximum: 3 })),
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
  usage: {
    total_tokens: number;
    input_tokens: number;
    output_tokens: number;
    input_tokens_details: { text_tokens: number; image_tokens: number };
    output_tokens_details: { image_tokens: number; text_tokens: number };
    acceleration: AccelerationUsage;
  };
  /** Milliseconds. */
  timings: { queue_ms: number; draw_ms: number; encode_ms: number; total_ms: number };
}

/** What was done, whatever was asked for. */
export interface AccelerationUsage {
  mode: 'off';
  few_step: 0;
  rounds: number;
  draft_tokens: number;
  accepted_tokens: number;
  gate_stops: number;
}

export interface ModelDescription {
  id: string;
  object: 'model';
  created: number;
  owned_by: string;
  prompt_mode: 'text';
  max_prompt_tokens: number;
  sizes: string[];
  default_size: string;
  defaults: { num_inference_steps: number; guidance_scale: number; negative_prompt: string; sampler: string };
  quality_presets: Record<'low' | 'medium' | 'high', { num_inference_steps: number }>;
}
