import { chooseAcceleration } from './acceleration.js';
import type { ClassJob, JobRequest, TextJob } from '../jobs/job.js';
import type { ClassModel, ServedModel, TextModel } from '../model/served-model.js';
import { formatSize, gridOf, parseSize, type Size } from '../model/sizes.js';
import { classLabelOf } from './class-prompt.js';
import { invalid, unsupported } from './refusals.js';
import type { ImagesRequest } from './schemas.js';
import { promptRowsOf } from './text-prompt.js';

/** Schema-valid body and model → job. Pure but for the drawn seed, which is handed in. */
export function prepareRequest(body: ImagesRequest, model: ServedModel, drawSeed: () => number): JobRequest {
  return model.promptMode === 'text' ? prepareText(body, model, drawSeed) : prepareClass(body, model, drawSeed);
}

export function prepareText(body: ImagesRequest, model: TextModel, drawSeed: () => number): TextJob {
  const { job, lowTimesteps, grid } = prepareAny(body, model, drawSeed);
  const { sampling } = model.manifest;
  const rows = promptRowsOf(body, model, grid, job.guidanceScale);
  const timesteps = timestepsOf(body, sampling, lowTimesteps);
  if ((sampling.sampler === 'A' || sampling.sampler === 'C-sde') && timesteps < 2) throw invalid('num_inference_steps', 'must be at least 2 for this model');
  return {
    ...job,
    prompt: 'text',
    // Guidance is in the few-step head's weights.
    promptRows: job.acceleration.fewStep > 0 ? rows.slice(0, 1) : rows,
    timesteps,
    sampler: sampling.sampler,
    samplerLevel: sampling.samplerLevel,
    timestepShift: sampling.timestepShift,
    guidanceSchedule: sampling.guidanceSchedule,
    useNorm: sampling.useNorm,
  };
}

export function prepareClass(body: ImagesRequest, model: ClassModel, drawSeed: () => number): ClassJob {
  const { passes, sampling } = model.manifest;
  const classLabel = classLabelOf(body, model);
  const { job, lowTimesteps } = prepareAny(body, model, drawSeed);
  return {
    ...job,
    prompt: 'class',
    classLabel,
    passes,
    timesteps: timestepsOf(body, sampling, lowTimesteps),
    sampler: sampling.sampler,
    driftScale: sampling.driftScale,
    noiseScale: sampling.noiseScale,
  };
}

/** What a job of any model needs. */
function prepareAny(body: ImagesRequest, model: ServedModel, drawSeed: () => number) {
  refuseUnbuilt(body);
  const { manifest } = model;
  const size = resolveSize(body.size, manifest.sizes);
  const grid = gridOf(size, manifest.pixelFactor);
  if (grid === null) throw new Error(`advertised size ${formatSize(size)} does not fit the model`);
  const { lowTimesteps, ...acceleration } = chooseAcceleration(body, model);
  const format = body.output_format ?? 'png';
  if (format === 'png' && (body.output_compression ?? 100) < 100) {
    throw unsupported('output_compression', 'Compression below 100 needs output_format jpeg or webp; png is lossless.');
  }
  const job = {
    model: manifest.id,
    gridHeight: grid.height,
    gridWidth: grid.width,
    seeds: seedsFrom(body.seed ?? drawSeed(), body.n ?? 1),
    guidanceScale: body.guidance_scale ?? manifest.sampling.guidanceScale,
    acceleration,
    quality: echoQuality(body.quality),
    format,
    compression: body.output_compression ?? 100,
    partialImages: body.partial_images ?? 0,
    rowPreviews: false,
  };
  return { job, lowTimesteps, grid };
}

function timestepsOf({ num_inference_steps: asked }: ImagesRequest, { timesteps, lowTimesteps }: { timesteps: number; lowTimesteps: number }, isLow: boolean): number {
  return asked ?? (isLow ? lowTimesteps : timesteps);
}

/** Image i has seed + i modulo 2^53, and any returned seed alone redraws its picture. */
export function seedsFrom(first: number, count: number): number[] {
  const modulus = 2n ** 53n;
  return Array.from({ length: count }, (_, i) => Number((BigInt(first) + BigInt(i)) % modulus));
}

/** Values the API has and this server does not do: said, never ignored. */
function refuseUnbuilt(body: ImagesRequest): void {
  if (body.response_format === 'url') throw unsupported('response_format', 'This server returns "b64_json" only.');
  if (body.background === 'transparent') throw unsupported('background', 'This model draws opaque pictures only.');
}

function resolveSize(text: string | undefined, sizes: readonly [Size, ...Size[]]): Size {
  if (text === undefined || text === 'auto') return sizes[0];
  const wanted = parseSize(text);
  const found = sizes.find((size) => size.width === wanted?.width && size.height === wanted.height);
  if (found !== undefined) return found;
  const list = sizes.map((size) => `"${formatSize(size)}"`).join(', ');
  throw unsupported('size', `Size ${JSON.stringify(text)} is not supported by this model. Supported: "auto", ${list}.`);
}

function echoQuality(quality: ImagesRequest['quality']): 'low' | 'medium' | 'high' {
  switch (quality) {
    case 'low':
      return 'low';
    case 'high':
    case 'hd':
      return 'high';
    case 'medium':
    case 'standard':
    case 'auto':
    case undefined:
      return 'medium';
  }
}
