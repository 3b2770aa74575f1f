import { InvalidModelFile, readEnum, readNumber, readObject, readOptional } from './json-file.js';

/** How a model that draws in passes does so when the request does not say (docs/transdiff.md 1.1, 6). */
export interface PassSampling {
  sampler: 'maruyama';
  /** Of every pass. */
  timesteps: number;
  /** `quality: low`: the fewest timesteps that still look right. */
  lowTimesteps: number;
  guidanceScale: number;
  /** scale_0 and scale_1: factors of drift and noise. */
  driftScale: number;
  noiseScale: number;
}

interface Source {
  file: string;
  /** Undefined: it says nothing. */
  value: unknown;
}

/** What the engine takes at most (native/model/noise_schedule.cpp). */
const MAX_TIMESTEPS = 1000;
const MAX_SCALE = 10;

/** The reference's own. */
const DEFAULTS = { timesteps: 100, guidanceScale: 1, driftScale: 1, noiseScale: 1 };

/**
 * From `sampling` of config.json, as converted and recorded folders have it ({steps, cfg, scale_0, scale_1}), and over that
 * `sampling.json`, with the keys it has in every family.
 */
export function parsePassSampling(config: Source, sampling: Source): PassSampling {
  const base = readBase(config);
  const { file } = sampling;
  const json = readObject(file, sampling.value ?? {});
  const positive = readNumber(file, { min: 1, max: MAX_TIMESTEPS, integer: true });
  readOptional(json, 'sampler', 'maruyama', readEnum(file, ['maruyama']));
  const timesteps = readOptional(json, 'timesteps', base.timesteps, positive);
  const lowTimesteps = readOptional(json, 'low_timesteps', Math.ceil(timesteps / 2), positive);
  if (lowTimesteps > timesteps) throw new InvalidModelFile(file, `"low_timesteps" ${lowTimesteps} is more than the model's ${timesteps}`);
  return {
    sampler: 'maruyama',
    timesteps,
    lowTimesteps,
    guidanceScale: readOptional(json, 'guidance_scale', base.guidanceScale, readNumber(file, { min: 1 })),
    driftScale: readOptional(json, 'scale_0', base.driftScale, readNumber(file, { min: 0, max: MAX_SCALE })),
    noiseScale: readOptional(json, 'scale_1', base.noiseScale, readNumber(file, { min: 0, max: MAX_SCALE })),
  };
}

function readBase({ file, value }: Source): typeof DEFAULTS {
  const json = readObject(file, value ?? {});
  return {
    timesteps: readOptional(json, 'steps', DEFAULTS.timesteps, readNumber(file, { min: 1, max: MAX_TIMESTEPS, integer: true })),
    guidanceScale: readOptional(json, 'cfg', DEFAULTS.guidanceScale, readNumber(file, { min: 1 })),
    driftScale: readOptional(json, 'scale_0', DEFAULTS.driftScale, readNumber(file, { min: 0, max: MAX_SCALE })),
    noiseScale: readOptional(json, 'scale_1', DEFAULTS.noiseScale, readNumber(file, { min: 0, max: MAX_SCALE })),
  };
}
