import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Type, type Static } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import type { FewStep } from '../engine/native-types.js';
import { InvalidModelFile, readJsonFile } from './json-file.js';
import { differingFiles, hashFile, hashModel } from './model-hash.js';
import type { PassSampling } from './pass-sampling.js';
import type { SamplingDefaults } from './sampling.js';

/** The folder in a model's folder that holds its draft model, its few-step head and what was measured of them. */
export const ACCELERATOR_FOLDER = 'accelerator';
export const CALIBRATION_FILE = 'accelerator.json';

/** Jumps that a few-step head is trained for. */
export const FEW_STEPS = [1, 2, 4] as const;
/** The engine drafts at most so many tokens in a round (native/engine/step_plan.h). */
export const MAX_DRAFT_TOKENS = 15;

const text = <T extends string>(...values: T[]) => Type.Unsafe<T>({ ...Type.Union(values.map((value) => Type.Literal(value))) });
const positive = () => Type.Number({ exclusiveMinimum: 0 });
const notNegative = () => Type.Number({ minimum: 0 });
const share = () => Type.Number({ minimum: 0, maximum: 1 });
const fewSteps = <N extends FewStep>(...values: N[]) => Type.Unsafe<N>({ ...Type.Union(values.map((value) => Type.Literal(value))) });
const hexDigest = () => Type.String({ pattern: '^[0-9a-f]{64}$' });

/** When drafting stops before a token is sampled; as the engine takes it (EntropyGate in native-types.ts). */
export const GateSchema = Type.Union([
  Type.Object({ kind: Type.Literal('off') }),
  Type.Object({ kind: Type.Literal('paper'), layer: Type.Integer({ minimum: 0 }), mean: share(), std: notNegative() }),
  Type.Object({
    kind: Type.Literal('logistic'),
    layer: Type.Integer({ minimum: 0 }),
    /** In the order of native/speculation/entropy_gate.h. */
    weights: Type.Array(Type.Number(), { minItems: 6, maxItems: 6 }),
    threshold: share(),
  }),
]);

/** How a mode drafts, as it was measured to be fastest. */
export const SpeculationSchema = Type.Object({
  drafting: text('sequential', 'parallel'),
  max_draft_tokens: Type.Integer({ minimum: 1, maximum: MAX_DRAFT_TOKENS }),
  /** Relaxed: the largest accepted distance. Exact: 0. */
  tolerance: notNegative(),
  /** Chance that a draft is accepted whose predecessors were. */
  acceptance: share(),
  gate: GateSchema,
  /** Of a model that draws in passes, whose drafts have no model of their own: jumps of its few-step decoder that a reference is drafted by. */
  draft_jumps: Type.Optional(fewSteps(...FEW_STEPS)),
  /** In units of one vanilla token (or pass) at batch 1. */
  costs: Type.Object({ plain: positive(), round: notNegative(), draft: notNegative(), verify: notNegative() }),
});

/** Whether a mode draws as well as vanilla does (docs/contract.md, Quality). */
export const GuardSchema = Type.Object({
  passed: Type.Boolean(),
  fd: notNegative(),
  fd_vanilla: notNegative(),
  /** Bootstrap 95 % interval of fd - fd_vanilla over the prompts. */
  fd_difference_interval: Type.Tuple([Type.Number(), Type.Number()]),
  diversity: notNegative(),
  diversity_vanilla: notNegative(),
  /** What `diversity` was compared with, where that is not vanilla's own. */
  diversity_wanted: Type.Optional(notNegative()),
  adherence: share(),
  adherence_vanilla: share(),
  /** Drawn for it, and the seeds they began with. */
  pictures: Type.Integer({ minimum: 1 }),
  seeds: Type.Array(Type.Integer({ minimum: 0 })),
  /** What did not pass, in words. */
  faults: Type.Array(Type.String()),
});

export const ModeSchema = Type.Object({
  guard: GuardSchema,
  /** Of one picture at a time, against `off`. */
  speedup: positive(),
  /** Null: the mode does not draft. */
  speculation: Type.Union([SpeculationSchema, Type.Null()]),
});

/** One mode's name in the file: how it speculates and its number of jumps. */
export const MODE_KEYS = [
  'exact', 'relaxed', 'few_step:1', 'few_step:2', 'few_step:4', 'relaxed:few_step:1', 'relaxed:few_step:2', 'relaxed:few_step:4',
] as const;
export type ModeKey = (typeof MODE_KEYS)[number];

/** `accelerator/accelerator.json`, written by `npm run calibrate` (docs/speculation.md, Calibration). Keys it does not know are left alone. */
export const CalibrationSchema = Type.Object({
  version: Type.Literal(1),
  /** Of the model it was measured with, and what that hash is made of, to name what differs. */
  model_hash: hexDigest(),
  model_files: Type.Record(Type.String(), hexDigest()),
  /** SHA-256 of the draft model and of the few-step head that were measured, by file. */
  accelerator_files: Type.Record(Type.String(), hexDigest()),
  created: Type.String(),
  /** What `off` meant: the folder's sampling.json as it was. */
  sampler: Type.String(),
  timesteps: Type.Integer({ minimum: 1 }),
  timestep_shift: positive(),
  guidance_scale: Type.Number({ minimum: 1 }),
  guidance_schedule: Type.String(),
  use_norm: Type.Boolean(),
  negative_prompt: Type.String(),
  /** Of TransDiff's sampler. */
  scale_0: Type.Optional(Type.Number()),
  scale_1: Type.Optional(Type.Number()),
  /** Costs are the measuring machine's; they are used everywhere, as bytes depend on them. */
  dtype: text('float32', 'bfloat16'),
  /** Files by the names that the engine knows. */
  draft: Type.Union([Type.Object({ file: Type.Literal('draft.safetensors') }), Type.Null()]),
  few_step: Type.Union([Type.Object({ file: Type.Literal('few_step.safetensors'), steps: Type.Array(fewSteps(...FEW_STEPS), { minItems: 1 }) }), Type.Null()]),
  modes: Type.Partial(Type.Object(Object.fromEntries(MODE_KEYS.map((key) => [key, ModeSchema])) as Record<ModeKey, typeof ModeSchema>)),
  /** The fastest mode whose guard passed; {off, 0} where none did. */
  auto: Type.Object({ mode: text('off', 'exact', 'relaxed'), few_step: fewSteps(0, ...FEW_STEPS) }),
});

export type Calibration = Static<typeof CalibrationSchema>;
export type CalibratedMode = Static<typeof ModeSchema>;
export type CalibratedSpeculation = Static<typeof SpeculationSchema>;

/** How tokens are drafted, and by how many jumps they are drawn (0: by the model's own sampler). */
export interface Acceleration {
  mode: 'off' | 'exact' | 'relaxed';
  fewStep: FewStep;
}

export const VANILLA: Acceleration = { mode: 'off', fewStep: 0 };

/** What a server draws with where a request does not say: by name, or what the calibration found to be fastest. */
export type DefaultAcceleration = 'auto' | 'off' | ModeKey;

export function accelerationOf(wish: DefaultAcceleration, calibration: Calibration | null): Acceleration {
  if (wish === 'off') return VANILLA;
  if (wish === 'auto') return calibration === null ? VANILLA : { mode: calibration.auto.mode, fewStep: calibration.auto.few_step };
  const fewStep = FEW_STEPS.find((count) => wish.endsWith(`few_step:${count}`)) ?? 0;
  return { mode: wish === 'exact' ? 'exact' : wish.startsWith('relaxed') ? 'relaxed' : 'off', fewStep };
}

/** Backbone rows that one round of the most demanding calibrated mode takes; 0 where nothing drafts. */
export function mostRowsPerRound({ modes }: Calibration): number {
  return Math.max(0, ...MODE_KEYS.map((key) => {
    const speculation = modes[key]?.speculation ?? null;
    // Guidance is in the few-step head, so it takes one row; with the model's own sampler there are two.
    return speculation === null ? 0 : (key.includes('few_step') ? 1 : 2) * (speculation.max_draft_tokens + 1);
  }));
}

/** Null for what needs no calibration: neither drafts nor jumps. There is no exact with jumps: their law is not the model's. */
export function modeKeyOf({ mode, fewStep }: Acceleration): ModeKey | null {
  if (fewStep === 0) return mode === 'off' ? null : mode;
  if (mode === 'exact') return null;
  return mode === 'off' ? `few_step:${fewStep}` : `relaxed:few_step:${fewStep}`;
}

/** There is an accelerator, and nobody has calibrated it: the model is drawn as if it had none. */
export function isUncalibrated(directory: string): boolean {
  const folder = join(directory, ACCELERATOR_FOLDER);
  return existsSync(folder) && !existsSync(join(folder, CALIBRATION_FILE));
}

/**
 * The calibration of a model's accelerator, or null where the folder has none: no accelerator, or one of which nothing was
 * measured, so nothing of it is used (isUncalibrated). Refuses, naming what is wrong: a broken
 * file, one that was measured with other weights or another sampling.json, one that names files that are not there.
 */
export function readCalibration(directory: string, sampling: SamplingDefaults | PassSampling): Calibration | null {
  const folder = join(directory, ACCELERATOR_FOLDER);
  const path = join(folder, CALIBRATION_FILE);
  const value = readJsonFile(path);
  if (value === undefined) return null;
  const calibration = parseCalibration(path, value);
  checkFiles(folder, calibration);
  checkSampling(path, calibration, sampling);
  checkModel(path, calibration, directory);
  return calibration;
}

export function parseCalibration(path: string, value: unknown): Calibration {
  if (!Value.Check(CalibrationSchema, value)) {
    const problem = Value.Errors(CalibrationSchema, value).First();
    throw new InvalidModelFile(path, `${problem?.path === '' || problem === undefined ? 'the file' : `"${problem.path.slice(1)}"`}: ${problem?.message ?? 'not valid'}`);
  }
  for (const key of MODE_KEYS) checkMode(path, value, key);
  const key = modeKeyOf({ mode: value.auto.mode, fewStep: value.auto.few_step });
  const isVanilla = value.auto.mode === 'off' && value.auto.few_step === 0;
  if (!isVanilla && (key === null || value.modes[key]?.guard.passed !== true)) {
    throw new InvalidModelFile(path, `"auto" names ${value.auto.mode} with few_step ${value.auto.few_step}, whose guard has not passed`);
  }
  return value;
}

/** A mode has what it needs, and nothing that contradicts its name. */
function checkMode(path: string, { modes, draft, few_step: head, sampler }: Calibration, key: ModeKey): void {
  const mode = modes[key];
  if (mode === undefined) return;
  const refuse = (problem: string): never => {
    throw new InvalidModelFile(path, `mode "${key}" ${problem}`);
  };
  const drafts = key.startsWith('exact') || key.startsWith('relaxed');
  if (drafts !== (mode.speculation !== null)) refuse(drafts ? 'has no "speculation"' : 'does not draft but has "speculation"');
  if (drafts && sampler === 'maruyama') checkPassDrafts(key, mode.speculation, head, refuse);
  else if (drafts && draft === null) refuse('needs a draft model, and "draft" is null');
  const steps = FEW_STEPS.find((count) => key.endsWith(`few_step:${count}`));
  if (steps !== undefined && head?.steps.includes(steps) !== true) refuse(`needs ${steps} in "few_step/steps"`);
}

/** References are drafted by the few-step decoder, and no whole pass can be verified exactly. */
function checkPassDrafts(key: ModeKey, speculation: CalibratedSpeculation | null, head: Calibration['few_step'], refuse: (problem: string) => never): void {
  if (key === 'exact') refuse('is none of a model that draws in passes');
  const jumps = speculation?.draft_jumps;
  if (jumps === undefined) refuse('says no "draft_jumps"');
  else if (head?.steps.includes(jumps) !== true) refuse(`drafts by ${jumps} jumps, which "few_step/steps" does not have`);
  if (speculation?.gate.kind !== 'off' || speculation.drafting !== 'sequential') refuse('has a gate or parallel drafts, and there is no draft model');
}

function checkFiles(folder: string, { draft, few_step: head, accelerator_files: digests }: Calibration): void {
  for (const part of [draft, head]) {
    if (part === null) continue;
    const path = join(folder, part.file);
    if (!existsSync(path)) throw new InvalidModelFile(path, `is missing, although ${CALIBRATION_FILE} names it`);
    // Tolerances, costs and guards are those of the weights that were measured.
    if (hashFile(path) !== digests[part.file]) throw new InvalidModelFile(path, `is not the file that ${CALIBRATION_FILE} was measured with; run "npm run calibrate" again`);
  }
}

/** What `off` means, as a calibration has it. A model that draws in passes has its own sampler's factors and nothing of what is left out of it. */
export type SamplingRecord = Pick<Calibration, 'sampler' | 'timesteps' | 'timestep_shift' | 'guidance_scale' | 'guidance_schedule' | 'use_norm' | 'negative_prompt' | 'scale_0' | 'scale_1'>;

export function recordOf(sampling: SamplingDefaults | PassSampling): SamplingRecord {
  if ('driftScale' in sampling) {
    const { timesteps, guidanceScale, driftScale, noiseScale } = sampling;
    const neutral = { timestep_shift: 1, guidance_schedule: 'constant', use_norm: false, negative_prompt: '' };
    return { sampler: 'maruyama', timesteps, guidance_scale: guidanceScale, ...neutral, scale_0: driftScale, scale_1: noiseScale };
  }
  const { sampler, timesteps, guidanceScale, timestepShift, guidanceSchedule, useNorm, negativePrompt } = sampling;
  return {
    sampler,
    timesteps,
    timestep_shift: timestepShift,
    guidance_scale: guidanceScale,
    guidance_schedule: guidanceSchedule,
    use_norm: useNorm,
    negative_prompt: negativePrompt,
  };
}

function checkSampling(path: string, calibration: Calibration, sampling: SamplingDefaults | PassSampling): void {
  for (const [name, now] of Object.entries(recordOf(sampling))) {
    const then = calibration[name as keyof SamplingRecord];
    if (then !== now) {
      throw new InvalidModelFile(path, `was measured with ${name} ${JSON.stringify(then)}, the model's own is ${JSON.stringify(now)}; run "npm run calibrate" again`);
    }
  }
}

function checkModel(path: string, calibration: Calibration, directory: string): void {
  const model = hashModel(directory);
  if (model.hash === calibration.model_hash) return;
  const files = differingFiles(calibration.model_files, model.files);
  const named = files.length === 0 ? 'model_hash' : files.join(', ');
  throw new InvalidModelFile(path, `was measured with another model (differs: ${named}); run "npm run calibrate" again, or remove the folder`);
}
