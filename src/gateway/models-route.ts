import type { FastifyInstance } from 'fastify';
import { ServerError } from '../errors.js';
import { accelerationOf, MODE_KEYS } from '../model/accelerator.js';
import type { ServedModel } from '../model/served-model.js';
import { formatSize } from '../model/sizes.js';
import { chooseAcceleration } from './acceleration.js';
import type { GatewayDeps, Serving } from './deps.js';
import { LIMITS, type CalibratedAcceleration, type ClassListDescription, type ModelDescription } from './schemas.js';

/** GET /v1/models and /v1/models/{id}: what can be drawn, and what happens when a request does not say. */
export function modelsRoute(app: FastifyInstance, { serving }: GatewayDeps, done: () => void): void {
  const describe = (model: ServedModel): ModelDescription => ({ ...describeModel(model), devices: devicesOf(serving) });
  app.get('/v1/models', async () => ({ object: 'list', data: serving.models.map(describe) }));
  app.get<{ Params: { id: string } }>('/v1/models/:id', async (request) => describe(findModel(serving.models, request.params.id)));
  app.get<{ Params: { id: string } }>('/v1/models/:id/classes', async (request) => describeClasses(findModel(serving.models, request.params.id)));
  done();
}

/** Every worker hosts every model. */
function devicesOf({ workers }: Serving): NonNullable<ModelDescription['devices']> {
  return workers.flatMap(({ status, device }) => (status !== 'ready' || device === null ? [] : [{ id: device.id, name: device.name, memory_bytes: device.memoryBytes }]));
}

/** The named model, or the first when none is named: clients may omit it. */
export function findModel(models: readonly ServedModel[], id: string | undefined): ServedModel {
  const model = id === undefined ? models[0] : models.find((candidate) => candidate.manifest.id === id);
  if (model !== undefined) return model;
  const known = models.map((candidate) => `'${candidate.manifest.id}'`).join(', ');
  throw new ServerError('model_not_found', `The model '${id ?? ''}' does not exist. Available: ${known}.`, { param: 'model' });
}

export function describeModel(model: ServedModel): ModelDescription {
  const { manifest, created } = model;
  const { sampling, sizes, captions } = manifest;
  return {
    id: manifest.id,
    object: 'model',
    created,
    owned_by: 'fast-ardiff',
    prompt_mode: model.promptMode,
    ...(model.promptMode === 'text' ? { max_prompt_tokens: LIMITS.promptTokens } : { num_classes: model.manifest.classes.classes.length, passes: model.manifest.passes }),
    sizes: sizes.map(formatSize),
    default_size: formatSize(sizes[0]),
    row_previews: manifest.latentRgb !== null,
    defaults: {
      num_inference_steps: sampling.timesteps,
      guidance_scale: sampling.guidanceScale,
      negative_prompt: model.promptMode === 'text' ? model.manifest.sampling.negativePrompt : '',
      sampler: sampling.sampler,
    },
    quality_presets: { low: preset('low', model), medium: preset('medium', model), high: preset('high', model) },
    accelerations: accelerationsOf(model),
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

/** What a prompt of such a model may name; a list of up to a thousand, so it is no part of the description. */
function describeClasses(model: ServedModel): ClassListDescription {
  if (model.promptMode !== 'class') throw new ServerError('not_found', `The model '${model.manifest.id}' draws captions, so it has no classes.`);
  return { object: 'list', data: model.manifest.classes.classes };
}

/** What a request that says nothing else is drawn with. */
function preset(quality: 'low' | 'medium' | 'high', model: ServedModel): ModelDescription['quality_presets']['low'] {
  const { fewStep, speculation } = chooseAcceleration({ quality }, model);
  const { timesteps, lowTimesteps } = model.manifest.sampling;
  return { num_inference_steps: quality === 'low' ? lowTimesteps : timesteps, acceleration: { mode: speculation?.mode ?? 'off', few_step: fewStep } };
}

function accelerationsOf({ calibration }: ServedModel): CalibratedAcceleration[] {
  const modes = MODE_KEYS.flatMap((key) => {
    const mode = calibration?.modes[key];
    if (mode === undefined) return [];
    const { mode: name, fewStep } = accelerationOf(key, calibration);
    return [{ mode: name, few_step: fewStep, speedup: mode.speedup, passed: mode.guard.passed, max_draft_tokens: mode.speculation?.max_draft_tokens ?? 0 }];
  });
  return modes.sort((a, b) => b.speedup - a.speedup);
}
