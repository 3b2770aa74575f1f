import { Type, type Static, type TSchema } from '@sinclair/typebox';
import type { ErrorEnvelope } from '../../errors.js';
import type { ClassListDescription, ImageStreamEvent, ImagesResponse, JobDescription, ModelDescription } from '../schemas.js';

// What the server answers, as schemas for the documentation. The types in schemas.ts are what the code is held to; the
// last lines hold the two to each other, and a test holds real answers to these.

const literals = <T extends string>(...values: T[]) => Type.Unsafe<T>({ type: 'string', enum: values });
const constant = <T extends string | number | true>(value: T) => Type.Unsafe<T>({ const: value });
const nullable = <T extends TSchema>(schema: T) => Type.Unsafe<Static<T> | null>({ anyOf: [schema, { type: 'null' }] });
const count = (description?: string) => Type.Integer({ minimum: 0, ...(description === undefined ? {} : { description }) });
const milliseconds = () => Type.Number({ minimum: 0 });

export const ErrorSchema = Type.Object({
  error: Type.Object({
    message: Type.String(),
    type: Type.String(),
    param: nullable(Type.String()),
    code: nullable(Type.String({ description: 'Stable; see docs/api.md, Errors.' })),
    suggestions: Type.Optional(
      Type.Array(Type.Object({ prompt: Type.String(), name: Type.String() }), { description: 'Classes that `prompt` may have meant: what to say instead, and its name for people.' }),
    ),
  }),
});

const AccelerationChoiceSchema = {
  mode: literals('off', 'exact', 'relaxed'),
  few_step: Type.Unsafe<0 | 1 | 2 | 4>({ type: 'integer', enum: [0, 1, 2, 4] }),
};

const AccelerationUsageSchema = Type.Object(
  {
    ...AccelerationChoiceSchema,
    rounds: count(),
    draft_tokens: count(),
    accepted_tokens: count(),
    gate_stops: count('Rounds whose drafting the entropy gate ended.'),
    throughput: Type.Optional(constant(true)),
  },
  { description: 'What was done, whatever was asked for; counted over the pictures that are finished. `throughput`: a server that runs for throughput drew pictures by few steps without drafts, as many shared the batch.' },
);

export const UsageSchema = Type.Object(
  {
    total_tokens: count(),
    input_tokens: count(),
    output_tokens: count(),
    input_tokens_details: Type.Object({ text_tokens: count(), image_tokens: count() }),
    output_tokens_details: Type.Object({ image_tokens: count(), text_tokens: count() }),
    acceleration: AccelerationUsageSchema,
  },
  { description: "Counted, not estimated: the caption's row once, and every drawn token of the request." },
);

export const TimingsSchema = Type.Object({ queue_ms: milliseconds(), draw_ms: milliseconds(), encode_ms: milliseconds(), total_ms: milliseconds() });

const look = {
  size: Type.String({ examples: ['64x64'] }),
  quality: literals('low', 'medium', 'high'),
  background: constant('opaque'),
  output_format: literals('png', 'jpeg', 'webp'),
};

export const ImagesResponseSchema = Type.Object({
  created: Type.Integer({ description: 'Unix seconds.' }),
  data: Type.Array(Type.Object({ b64_json: Type.String({ contentEncoding: 'base64' }), seed: Type.Integer({ description: 'Alone it draws this picture again.' }) })),
  ...look,
  model: Type.String(),
  usage: UsageSchema,
  timings: TimingsSchema,
});

const eventFields = {
  b64_json: Type.String({ contentEncoding: 'base64' }),
  created_at: Type.Integer({ description: 'Unix seconds.' }),
  ...look,
  index: Type.Optional(Type.Integer({ description: 'Which picture, where the request asked for more than one.' })),
};

export const ProgressSchema = Type.Object({
  stage: literals('prefill', 'ar', 'encode'),
  step: count(),
  total: count(),
  fraction: Type.Number({ minimum: 0, maximum: 1, description: 'Over all stages and pictures; never falls.' }),
  eta_ms: nullable(Type.Number()),
  image: Type.Optional(count('The picture that moved.')),
});

export const StreamEventSchema = Type.Union([
  Type.Object({ type: constant('image_generation.partial_image'), partial_image_index: count(), ...eventFields }),
  Type.Object({ type: constant('image_generation.completed'), seed: Type.Integer(), usage: UsageSchema, timings: Type.Optional(TimingsSchema), ...eventFields }),
  Type.Object({ type: constant('image_generation.progress'), ...ProgressSchema.properties }),
]);

export const JobSchema = Type.Object({
  id: Type.String(),
  object: constant('image_generation.job'),
  status: literals('queued', 'running', 'succeeded', 'failed', 'cancelled'),
  model: Type.String(),
  created_at: Type.Integer({ description: 'Unix seconds.' }),
  queue_position: count('Jobs ahead of it that have not started.'),
  progress: Type.Number({ minimum: 0, maximum: 1 }),
  seeds: Type.Array(Type.Integer()),
  result: nullable(ImagesResponseSchema),
  error: nullable(ErrorSchema.properties.error),
});

const preset = Type.Object({ num_inference_steps: Type.Integer(), acceleration: Type.Object(AccelerationChoiceSchema) });

export const ModelSchema = Type.Object({
  id: Type.String(),
  object: constant('model'),
  created: Type.Integer(),
  owned_by: Type.String(),
  prompt_mode: Type.Unsafe<'text' | 'class'>({ type: 'string', enum: ['text', 'class'], description: "Whether a prompt is a caption or names one of the model's classes." }),
  max_prompt_tokens: Type.Optional(Type.Integer({ description: 'Of captions.' })),
  num_classes: Type.Optional(Type.Integer({ description: 'That a prompt may name.' })),
  passes: Type.Optional(Type.Integer({ description: 'Over the whole picture, all but the last of them its previews; of models that draw classes.' })),
  sizes: Type.Array(Type.String()),
  default_size: Type.String(),
  row_previews: Type.Boolean({ description: 'Whether finished rows can be shown while a picture is drawn.' }),
  defaults: Type.Object({ num_inference_steps: Type.Integer(), guidance_scale: Type.Number(), negative_prompt: Type.String(), sampler: Type.String() }),
  quality_presets: Type.Object({ low: preset, medium: preset, high: preset }),
  accelerations: Type.Array(
    Type.Object({
      ...AccelerationChoiceSchema,
      speedup: Type.Number({ description: 'Of one picture at a time, against `off`, where it was calibrated.' }),
      passed: Type.Boolean({ description: "It draws as well as the model's own sampler; only such are chosen by `auto`." }),
      max_draft_tokens: count(),
    }),
    { description: 'Ways of drawing that are calibrated, fastest first.' },
  ),
  pixels_per_token: Type.Integer(),
  limits: Type.Object({
    n: Type.Integer(),
    num_inference_steps: Type.Integer(),
    guidance_scale: Type.Number(),
    seed: Type.Integer(),
    prompt_characters: Type.Integer(),
  }),
  styles: Type.Array(Type.Object({ name: Type.String(), suffix: Type.String() })),
  example_prompts: Type.Array(Type.String()),
  devices: Type.Optional(Type.Array(Type.Object({ id: Type.String(), name: Type.String(), memory_bytes: Type.Integer() }), { description: 'What it is drawn on now, a worker each.' })),
});

export const ClassListSchema = Type.Object({
  object: constant('list'),
  data: Type.Array(
    Type.Object({
      index: Type.Integer(),
      name: Type.String(),
      synonyms: Type.Array(Type.String()),
      synset: nullable(Type.String({ description: 'WordNet id.' })),
      group: nullable(Type.String()),
    }),
    { description: "In the order of the model's table." },
  ),
});

export const ModelListSchema = Type.Object({ object: constant('list'), data: Type.Array(ModelSchema) });

export const HealthSchema = Type.Object({ status: constant('ok') });

export const ReadinessSchema = Type.Object({
  status: literals('loading', 'ready', 'draining', 'failed'),
  models: Type.Array(Type.String()),
  /** What draws, once it is up. */
  backend: Type.Optional(Type.String()),
  device: Type.Optional(Type.String()),
  dtype: Type.Optional(Type.String()),
  isa: Type.Optional(Type.String()),
  libraries: Type.Optional(Type.String({ description: 'That it computes with, and their versions.' })),
  workers: Type.Array(
    Type.Object({
      name: Type.String(),
      status: literals('loading', 'ready', 'failed'),
      loaded: Type.Number({ minimum: 0, maximum: 1, description: 'Share of the weights that it has read.' }),
      device: nullable(
        Type.Object({
          id: Type.String({ description: 'cpu, reference or cuda:N.' }),
          name: Type.String({ description: 'What the hardware calls itself.' }),
          memory_bytes: Type.Integer(),
          reason: Type.String({ description: 'Why it was chosen.' }),
        }),
      ),
    }),
    { description: 'One for each device.' },
  ),
});

/** Compiles only while T can stand for U and U for T, `readonly` aside. */
type Same<T, U> = [T] extends [U] ? ([U] extends [Mutable<T>] ? true : never) : never;
type Mutable<T> = T extends readonly (infer E)[] ? Mutable<E>[] : T extends object ? { -readonly [K in keyof T]: Mutable<T[K]> } : T;

export const SCHEMAS_ARE_THE_TYPES: readonly [
  Same<Static<typeof ErrorSchema>, ErrorEnvelope>,
  Same<Static<typeof ImagesResponseSchema>, ImagesResponse>,
  Same<Static<typeof StreamEventSchema>, ImageStreamEvent>,
  Same<Static<typeof JobSchema>, JobDescription>,
  Same<Static<typeof ModelSchema>, Mutable<ModelDescription>>,
  Same<Static<typeof ClassListSchema>, Mutable<ClassListDescription>>,
] = [true, true, true, true, true, true];
