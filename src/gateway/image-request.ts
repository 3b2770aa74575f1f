import { ServerError } from '../errors.js';
import { chooseAcceleration } from './acceleration.js';
import type { JobRequest } from '../jobs/job.js';
import type { ServedModel } from '../model/served-model.js';
import { formatSize, gridOf, parseSize, type Grid, type Size } from '../model/sizes.js';
import { LIMITS, type ImagesRequest } from './schemas.js';

/** Schema-valid body and model → job. Pure but for the drawn seed, which is handed in. */
export function prepareRequest(body: ImagesRequest, model: ServedModel, drawSeed: () => number): JobRequest {
  refuseUnbuilt(body);
  const { manifest } = model;
  const { sampling } = manifest;
  const size = resolveSize(body.size, manifest.sizes);
  const grid = gridOf(size, manifest.pixelFactor);
  if (grid === null) throw new Error(`advertised size ${formatSize(size)} does not fit the model`);
  const guidanceScale = body.guidance_scale ?? sampling.guidanceScale;
  const { lowTimesteps, ...acceleration } = chooseAcceleration(body, model);
  const rows = buildRows(body, model, grid, guidanceScale);
  // Guidance is in the few-step head's weights.
  const promptRows = acceleration.fewStep > 0 ? rows.slice(0, 1) : rows;
  const quality = echoQuality(body.quality);
  const timesteps = body.num_inference_steps ?? (lowTimesteps ? sampling.lowTimesteps : sampling.timesteps);
  if ((sampling.sampler === 'A' || sampling.sampler === 'C-sde') && timesteps < 2) throw invalid('num_inference_steps', 'must be at least 2 for this model');
  const format = body.output_format ?? 'png';
  if (format === 'png' && (body.output_compression ?? 100) < 100) {
    throw unsupported('output_compression', 'Compression below 100 needs output_format jpeg or webp; png is lossless.');
  }
  return {
    model: manifest.id,
    promptRows,
    gridHeight: grid.height,
    gridWidth: grid.width,
    seeds: seedsFrom(body.seed ?? drawSeed(), body.n ?? 1),
    sampler: sampling.sampler,
    samplerLevel: sampling.samplerLevel,
    timesteps,
    timestepShift: sampling.timestepShift,
    guidanceScale,
    guidanceSchedule: sampling.guidanceSchedule,
    useNorm: sampling.useNorm,
    acceleration,
    quality,
    format,
    compression: body.output_compression ?? 100,
    partialImages: body.partial_images ?? 0,
    rowPreviews: false,
  };
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

function buildRows(body: ImagesRequest, model: ServedModel, grid: Grid, guidanceScale: number): number[][] {
  const { tokenizer, manifest } = model;
  const row = (param: string, text: string): number[] => {
    checkText(param, text, model);
    const caption = tokenizer.encodeCaption(text, LIMITS.promptTokens);
    if (caption === null) {
      throw new ServerError('string_above_max_length', `${param} is longer than ${LIMITS.promptTokens} tokens.`, { param });
    }
    const ids = tokenizer.promptRow(caption, grid);
    if (ids.length + grid.height * grid.width > manifest.maxPositions) {
      throw new ServerError('string_above_max_length', `${param} and picture together are longer than the model can see.`, { param });
    }
    return [...ids];
  };
  const conditional = row('prompt', body.prompt);
  if (guidanceScale > 1) return [conditional, row('negative_prompt', body.negative_prompt ?? manifest.sampling.negativePrompt)];
  if (body.negative_prompt !== undefined && body.negative_prompt !== '') {
    throw unsupported('negative_prompt', 'A negative prompt needs guidance_scale above 1.');
  }
  return [conditional];
}

function checkText(param: string, text: string, model: ServedModel): void {
  if (text.includes('\0')) throw invalid(param, 'must not contain NUL characters');
  if (!text.isWellFormed()) throw invalid(param, 'is not well-formed Unicode: it contains a lone surrogate');
  if (param === 'prompt' && text.trim() === '') throw invalid(param, 'must not be blank');
  const special = model.tokenizer.findSpecialToken(text);
  if (special !== null) throw invalid(param, `must not contain the control token ${JSON.stringify(special)}`);
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

function unsupported(param: string, message: string): ServerError {
  return new ServerError('unsupported_value', message, { param });
}

function invalid(param: string, problem: string): ServerError {
  return new ServerError('invalid_value', `${param} ${problem}.`, { param });
}
