import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { EngineInfo } from '../engine/native-types.js';
import { CALIBRATION_FILE, FEW_STEPS, MODE_KEYS, parseCalibration, recordOf, type Calibration } from '../model/accelerator.js';
import { hashFile, hashModel } from '../model/model-hash.js';
import type { CalibratedMode, CalibrationOptions, CalibrationResult } from './calibrate.js';
import { fastest, guardPictures } from './calibrate.js';
import { combinationOf } from './combination.js';
import { OTHER_SEEDS } from './evaluate.js';
import type { Verdict } from './guard.js';
import type { Studio } from './studio.js';

export const DRAFT_FILE = 'draft.safetensors';
export const FEW_STEP_FILE = 'few_step.safetensors';

/** accelerator.json as it is written: what the server reads, and for people how every number came about. */
export type CalibrationFile = Calibration & ReturnType<typeof notes>;

/** `folder`: where draft and few-step head were loaded from. */
export function calibrationFile({ served, model }: Studio, folder: string, engine: EngineInfo, result: CalibrationResult, options: CalibrationOptions, created: Date): CalibrationFile {
  const { manifest } = served;
  const { accelerator } = model.info;
  const { hash, files } = hashModel(manifest.directory);
  return {
    version: 1,
    model_hash: hash,
    model_files: { ...files },
    accelerator_files: Object.fromEntries([DRAFT_FILE, FEW_STEP_FILE].filter((file) => existsSync(join(folder, file))).map((file) => [file, hashFile(join(folder, file))])),
    created: created.toISOString(),
    ...recordOf(manifest.sampling),
    dtype: engine.dtype,
    draft: accelerator.draftLayers > 0 ? { file: DRAFT_FILE } : null,
    few_step: accelerator.fewStep ? { file: FEW_STEP_FILE, steps: [...FEW_STEPS] } : null,
    modes: Object.fromEntries(result.modes.map((mode) => [mode.key, modeEntry(mode, options)])),
    auto: { mode: result.auto.mode, few_step: result.auto.fewStep },
    ...notes(engine, result, options),
  };
}

/**
 * Modes of an earlier file that were not measured this time stay, if all that they depend on is the same: model, sampling, dtype,
 * the accelerator's weights. Then `auto` is chosen among all of them.
 */
export function withKeptModes(fresh: CalibrationFile, before: CalibrationFile | null): CalibrationFile {
  if (before === null || !SAME_IN_BOTH.every((key) => isDeepStrictEqual(fresh[key], before[key]))) return fresh;
  const modes = { ...before.modes, ...fresh.modes };
  const trials = { ...before.trials, ...fresh.trials };
  const candidates = MODE_KEYS.flatMap((key) => {
    const mode = modes[key];
    const trial = trials[key];
    return mode === undefined ? [] : [{ combination: combinationOf(key), speedup: mode.speedup, verdict: mode.guard, trial: trial === undefined ? null : { tokensPerRound: trial.tokens_per_round } }];
  });
  const { mode, fewStep } = fastest(candidates);
  return {
    ...fresh,
    modes,
    auto: { mode, few_step: fewStep },
    gate_report: { ...before.gate_report, ...fresh.gate_report },
    trials,
  };
}

const SAME_IN_BOTH = [
  'model_hash', 'accelerator_files', 'sampler', 'timesteps', 'timestep_shift', 'guidance_scale', 'guidance_schedule', 'use_norm', 'negative_prompt', 'scale_0', 'scale_1', 'dtype', 'data',
] as const satisfies readonly (keyof CalibrationFile)[];

/** The file that is there, if it is one of ours and whole. */
export function readCalibrationFile(folder: string): CalibrationFile | null {
  const path = join(folder, CALIBRATION_FILE);
  if (!existsSync(path)) return null;
  try {
    return parseCalibration(path, JSON.parse(readFileSync(path, 'utf8'))) as CalibrationFile;
  } catch {
    // Broken or of another version: it is about to be written anew.
    return null;
  }
}

function modeEntry({ verdict, speedup, settings }: CalibratedMode, { guard }: CalibrationOptions): NonNullable<Calibration['modes'][keyof Calibration['modes']]> {
  return {
    guard: guardEntry(verdict, guardPictures(guard)),
    speedup: rounded(speedup),
    speculation:
      settings === null
        ? null
        : {
            drafting: settings.drafting,
            max_draft_tokens: settings.maxDraftTokens,
            tolerance: settings.tolerance,
            acceptance: rounded(settings.acceptance),
            gate: settings.gate,
            costs: {
              plain: rounded(settings.costs.plain),
              round: rounded(settings.costs.round),
              draft: rounded(settings.costs.draft),
              verify: rounded(settings.costs.verify),
            },
            ...(settings.draftJumps === undefined ? {} : { draft_jumps: settings.draftJumps }),
          },
  };
}

function guardEntry({ passed, scores, vanilla, diversityWanted, fdDifferenceInterval: { low, high }, faults }: Verdict, pictures: number) {
  return {
    passed,
    fd: rounded(scores.fd),
    fd_vanilla: rounded(vanilla.fd),
    fd_difference_interval: [rounded(low), rounded(high)] as [number, number],
    diversity: rounded(scores.diversity),
    diversity_vanilla: rounded(vanilla.diversity),
    diversity_wanted: rounded(diversityWanted),
    adherence: rounded(scores.adherence),
    adherence_vanilla: rounded(vanilla.adherence),
    pictures,
    seeds: [0, OTHER_SEEDS],
    faults: [...faults],
  };
}

/** Beside what the server reads. */
function notes(engine: EngineInfo, { modes, spread }: CalibrationResult, options: CalibrationOptions) {
  return {
    measured_on: { isa: engine.isa, threads: engine.threads, libraries: engine.libraries },
    /** Differences of vanilla to itself with other seeds, 95 %: what is inside is of equal quality. */
    vanilla_spread: spread,
    data: { ...options.guard, traced_pictures: options.tracedPictures, timed_pictures: options.timedPictures, repetitions: options.repetitions },
    gate_report: Object.fromEntries(modes.filter(({ gate }) => gate !== null).map(({ key, gate }) => [key, gate])),
    trials: Object.fromEntries(
      modes.filter(({ trial }) => trial !== null).map(({ key, trial, tolerances, costError }) => [
        key,
        { tokens_per_round: trial!.tokensPerRound, token_speedup: trial!.tokenSpeedup, predicted_token_speedup: trial!.predicted, cost_error: costError, tolerances },
      ]),
    ),
  };
}

/** Times and distances are not known to more digits; the bytes of a picture depend on what is stored, not on what was measured. */
function rounded(value: number): number {
  return Number(value.toPrecision(5));
}

/** Written whole or not at all, and only what the server will read without complaint. */
export function saveCalibration(folder: string, calibration: Calibration): string {
  const path = join(folder, CALIBRATION_FILE);
  mkdirSync(folder, { recursive: true });
  const text = `${JSON.stringify(calibration, null, 1)}\n`;
  parseCalibration(path, JSON.parse(text));
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  return path;
}
