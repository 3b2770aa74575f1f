import type { FastifyInstance } from 'fastify';
import { ServerError } from '../errors.js';
import type { ServedModel } from '../model/served-model.js';
import { formatSize } from '../model/sizes.js';
import type { GatewayDeps } from './deps.js';
import { LIMITS, type ModelDescription } from './schemas.js';

/** GET /v1/models and /v1/models/{id}: what can be drawn, and what happens when a request does not say. */
export function modelsRoute(app: FastifyInstance, { serving }: GatewayDeps, done: () => void): void {
  app.get('/v1/models', async () => ({ object: 'list', data: serving.models.map(describeModel) }));
  app.get<{ Params: { id: string } }>('/v1/models/:id', async (request) => describeModel(findModel(serving.models, request.params.id)));
  done();
}

/** The named model, or the first when none is named: clients may omit it. */
export function findModel(models: readonly ServedModel[], id: string | undefined): ServedModel {
  const model = id === undefined ? models[0] : models.find((candidate) => candidate.manifest.id === id);
  if (model !== undefined) return model;
  const known = models.map((candidate) => `'${candidate.manifest.id}'`).join(', ');
  throw new ServerError('model_not_found', `The model '${id ?? ''}' does not exist. Available: ${known}.`, { param: 'model' });
}

export function describeModel({ manifest, created }: ServedModel): ModelDescription {
  const { sampling, sizes, captions } = manifest;
  const preset = { num_inference_steps: sampling.timesteps };
  return {
    id: manifest.id,
    object: 'model',
    created,
    owned_by: 'fast-ardiff',
    prompt_mode: 'text',
    max_prompt_tokens: LIMITS.promptTokens,
    sizes: sizes.map(formatSize),
    default_size: formatSize(sizes[0]),
    row_previews: manifest.latentRgb !== null,
    defaults: {
      num_inference_steps: sampling.timesteps,
      guidance_scale: sampling.guidanceScale,
      negative_prompt: sampling.negativePrompt,
      sampler: sampling.sampler,
    },
    quality_presets: { low: { num_inference_steps: sampling.lowTimesteps }, medium: preset, high: preset },
    pixels_per_token: manifest.pixelFactor,
    limits: {
      n: LIMITS.images,
      num_inference_steps: LIMITS.timesteps,
      guidance_scale: LIMITS.guidanceScale,
      seed: LIMITS.seed,
      prompt_characters: LIMITS.promptCharacters,
    },
    styles: captions.styles,
    example_prompts: captions.examples,
  };
}
