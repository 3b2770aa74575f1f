import type { GuidanceSchedule, SamplerName } from '../engine/native-types.js';
import { InvalidModelFile, readEnum, readNumber, readObject, readOptional, readString } from './json-file.js';
import { parseSize, type Size } from './sizes.js';

/** How a model draws when the request does not say. */
export interface SamplingDefaults {
  sampler: SamplerName;
  samplerLevel: number;
  timesteps: number;
  /** `quality: low`: the fewest timesteps that still look right. */
  lowTimesteps: number;
  timestepShift: number;
  guidanceScale: number;
  guidanceSchedule: GuidanceSchedule;
  useNorm: boolean;
  negativePrompt: string;
  /** What the model was trained to draw, its native size first; null: the file does not say. */
  sizes: readonly Size[] | null;
}

/** The model-card row of the released checkpoints (docs/nextstep.md 13), for folders without sampling.json. */
export const MODEL_CARD: SamplingDefaults = {
  sampler: 'B',
  samplerLevel: 0.8,
  timesteps: 28,
  lowTimesteps: 14,
  timestepShift: 1,
  guidanceScale: 7.5,
  guidanceSchedule: 'constant',
  useNorm: false,
  negativePrompt: '',
  sizes: null,
};

const SAMPLERS: readonly SamplerName[] = ['A', 'B', 'C-sde', 'C-cps', 'C-ode'];
const SCHEDULES: readonly GuidanceSchedule[] = ['constant', 'linear', 'linear-increasing'];

/** `sampling.json` of a model folder; absent keys mean the model card's. */
export function parseSampling(file: string, value: unknown): SamplingDefaults {
  const json = readObject(file, value);
  const timesteps = readOptional(json, 'timesteps', MODEL_CARD.timesteps, readNumber(file, { min: 1, integer: true }));
  return {
    sampler: readOptional(json, 'sampler', MODEL_CARD.sampler, readEnum(file, SAMPLERS)),
    samplerLevel: readOptional(json, 'sampler_level', MODEL_CARD.samplerLevel, readNumber(file, { min: 0 })),
    timesteps,
    lowTimesteps: readOptional(json, 'low_timesteps', Math.ceil(timesteps / 2), readNumber(file, { min: 1, integer: true })),
    timestepShift: readOptional(json, 'timestep_shift', MODEL_CARD.timestepShift, readNumber(file, { min: 1e-3 })),
    guidanceScale: readOptional(json, 'guidance_scale', MODEL_CARD.guidanceScale, readNumber(file, { min: 1 })),
    guidanceSchedule: readOptional(json, 'guidance_schedule', MODEL_CARD.guidanceSchedule, readEnum(file, SCHEDULES)),
    useNorm: readOptional(json, 'use_norm', MODEL_CARD.useNorm, readBoolean(file)),
    negativePrompt: readOptional(json, 'negative_prompt', MODEL_CARD.negativePrompt, readString(file)),
    sizes: readOptional(json, 'sizes', null, readSizes(file)),
  };
}

function readBoolean(file: string) {
  return (key: string, value: unknown): boolean => {
    if (typeof value !== 'boolean') throw new InvalidModelFile(file, `"${key}" must be true or false`);
    return value;
  };
}

function readSizes(file: string) {
  return (key: string, value: unknown): readonly Size[] => {
    const sizes = Array.isArray(value) ? value.map((text) => (typeof text === 'string' ? parseSize(text) : null)) : [];
    if (sizes.length === 0 || sizes.includes(null)) {
      throw new InvalidModelFile(file, `"${key}" must be a list of sizes like "512x512"`);
    }
    return sizes.filter((size) => size !== null);
  };
}
