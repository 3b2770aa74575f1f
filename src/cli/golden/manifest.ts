import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { GuidanceSchedule, SamplerName, Tensor } from '../../engine/native-types.js';
import { readJsonFile, readObject, type JsonObject } from '../../model/json-file.js';
import { readSafetensors } from '../safetensors.js';

/** A golden folder that cannot be run at all; exit status 2, as opposed to a case that fails. */
export class GoldenUsageError extends Error {
  override readonly name = 'GoldenUsageError';
}

export interface CaseParams {
  sampler: SamplerName;
  /** Noise level of sampler C. */
  level: number;
  timesteps: number;
  timestep_shift: number;
  guidance_scale: number;
  image_guidance_scale: number;
  guidance_schedule: GuidanceSchedule;
  use_norm: boolean;
  grid: [number, number];
  /** TransDiff: its names of timesteps, guidance and the sampler's factors of drift and noise. */
  steps: number;
  cfg: number;
  scale_0: number;
  scale_1: number;
  /** What a latent is divided by before it is decoded. */
  divide_by: number;
  /** Jumps of the few-step head; 0: the model's sampler. */
  few_step: 0 | 1 | 2 | 4;
}

/** One case as the manifest has it: names of input tensors, parameters, tolerance per expected tensor. */
export interface GoldenCase {
  name: string;
  kind: string;
  /** Input tensor names by role, e.g. `x`, `condition`, `noise`. */
  inputs: Readonly<Record<string, string>>;
  /** Of a draft's case: mask rows behind the pairs, and the first key that entropies are taken over. */
  masked: number;
  firstKey: number;
  rows: readonly string[];
  /** Of a batch recorded whole, how many of its pictures the case takes; null: all. */
  pictures: number | null;
  params: CaseParams;
  expect: readonly { tensor: string; tolerance: number }[];
  /** Where rows and noise came from, for cases that say: tokenizer and generator are then held to them, too. */
  origin: { prompt: string; negativePrompt: string; seed: number } | null;
}

export interface GoldenFolder {
  directory: string;
  family: 'nextstep' | 'transdiff';
  /** Folder of the model the cases are of. */
  model: string;
  /** Where the cases are an accelerator's: its folder, which is `directory`, inside that of the model. */
  accelerator: string | null;
  /** Folder of the VAE where the manifest names one, or says (null) that its cases need none. */
  vae: string | null | undefined;
  cases: readonly GoldenCase[];
  fixtures: ReadonlyMap<string, Tensor>;
}

const DEFAULTS: CaseParams = {
  sampler: 'B',
  level: 0.8,
  timesteps: 1,
  timestep_shift: 1,
  guidance_scale: 1,
  image_guidance_scale: 1,
  guidance_schedule: 'constant',
  use_norm: false,
  grid: [1, 1],
  steps: 1,
  cfg: 1,
  scale_0: 1,
  scale_1: 1,
  divide_by: 1,
  few_step: 0,
};

/** By the manifest's `family`. */
const FAMILIES: ReadonlyMap<unknown, GoldenFolder['family']> = new Map([
  ['nextstep', 'nextstep'],
  ['transdiff', 'transdiff'],
  ['transdiff-mrar', 'transdiff'],
]);

export function readGoldenFolder(directory: string): GoldenFolder {
  const path = join(directory, 'manifest.json');
  if (!existsSync(path)) throw new GoldenUsageError(`${path} is missing: not a golden folder`);
  const manifest = readObject(path, readJsonFile(path));
  const family = FAMILIES.get(manifest['family']);
  if (family === undefined) {
    const names = [...FAMILIES.keys()].map((name) => JSON.stringify(name)).join(', ');
    throw new GoldenUsageError(`${path}: family ${JSON.stringify(manifest['family'])} is not supported yet; supported: ${names}`);
  }
  if (!Array.isArray(manifest['cases']) || manifest['cases'].length === 0) throw new GoldenUsageError(`${path}: no cases`);
  const accelerated = !existsSync(join(directory, 'config.json'));
  return {
    directory,
    family,
    vae: readVae(directory, manifest['vae']),
    model: accelerated ? dirname(resolve(directory)) : directory,
    accelerator: accelerated ? directory : null,
    cases: manifest['cases'].map((value: unknown, i) => readCase(`${path}: case ${i}`, value)),
    fixtures: readSafetensors(join(directory, 'fixtures.safetensors')),
  };
}

function readCase(where: string, value: unknown): GoldenCase {
  const json = readObject(where, value);
  const expect = readObject(`${where}: expect`, json['expect']);
  const rows: unknown = json['rows'] ?? [];
  const strings = Object.entries(json).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return {
    name: String(json['name']),
    kind: String(json['kind']),
    inputs: Object.fromEntries(strings.filter(([key]) => key !== 'name' && key !== 'kind')),
    masked: Number(json['masked'] ?? 0),
    firstKey: Number(json['first_key'] ?? 0),
    rows: Array.isArray(rows) ? rows.map(String) : [],
    pictures: typeof rows === 'number' ? rows : null,
    params: { ...DEFAULTS, ...(readObject(`${where}: params`, json['params'] ?? {}) as Partial<CaseParams>) },
    origin: readOrigin(json),
    expect: Object.entries(expect).map(([tensor, tolerance]) => ({ tensor, tolerance: Number(tolerance) })),
  };
}

/** Relative to the case's folder. */
function readVae(directory: string, value: unknown): GoldenFolder['vae'] {
  return typeof value === 'string' ? join(directory, value) : value === null ? null : undefined;
}

function readOrigin(json: JsonObject): GoldenCase['origin'] {
  const { prompt, seed, negative_prompt: negativePrompt } = json;
  if (typeof prompt !== 'string' || typeof seed !== 'number') return null;
  return { prompt, seed, negativePrompt: typeof negativePrompt === 'string' ? negativePrompt : '' };
}

/** The fixture that the case names for a role; a missing one names case and role. */
export function inputOf(folder: GoldenFolder, goldenCase: GoldenCase, role: string): Tensor {
  const name = goldenCase.inputs[role];
  if (name === undefined) throw new Error(`case "${goldenCase.name}" of kind ${goldenCase.kind} names no ${role}`);
  return fixture(folder, name);
}

export function fixture(folder: GoldenFolder, name: string): Tensor {
  const tensor = folder.fixtures.get(name);
  if (tensor === undefined) throw new Error(`${folder.directory}: fixture ${name} is missing`);
  return tensor;
}
