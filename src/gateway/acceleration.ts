import type { FewStep, SpeculationSpec } from '../engine/native-types.js';
import { ServerError } from '../errors.js';
import type { JobAcceleration } from '../jobs/job.js';
import { accelerationOf, FEW_STEPS, modeKeyOf, VANILLA, type Acceleration, type CalibratedMode, type Calibration, type DefaultAcceleration } from '../model/accelerator.js';
import type { ServedModel } from '../model/served-model.js';
import type { ImagesRequest } from './schemas.js';

/** What a request may say of how it is drawn. */
export type AccelerationInput = Pick<ImagesRequest, 'acceleration' | 'quality' | 'num_inference_steps' | 'guidance_scale' | 'negative_prompt'>;

export interface ChosenAcceleration extends JobAcceleration {
  /** `quality: low` and nothing faster: the model's own sampler with as few timesteps as still look right. */
  lowTimesteps: boolean;
}

/** A combination, and whether the request itself asked for it or merely left it open. */
interface Candidate {
  acceleration: Acceleration;
  isAsked: boolean;
}

interface Refusal {
  param: string;
  message: string;
}

/**
 * How a request is drawn, from its fields, the server's default and what was calibrated; pure. What was asked for and
 * cannot be done is refused, naming the field; what only follows from a default and does not fit the request is drawn by the
 * model's own sampler. `usage.acceleration` of the answer says which (docs/contract.md, Sampling).
 */
export function chooseAcceleration(input: AccelerationInput, { calibration, acceleration: byServer }: Pick<ServedModel, 'calibration' | 'acceleration'>): ChosenAcceleration {
  const { acceleration, isAsked } = candidateOf(input, calibration, byServer);
  const refusal = refusalOf(acceleration, input, calibration, isAsked);
  if (refusal !== null && isAsked) throw new ServerError('unsupported_value', refusal.message, { param: refusal.param });
  const { mode, fewStep } = refusal === null ? acceleration : VANILLA;
  const key = modeKeyOf({ mode, fewStep });
  const maxDraftTokens = input.acceleration?.max_draft_tokens ?? Infinity;
  const speculation = key === null || mode === 'off' || maxDraftTokens === 0 ? null : speculationOf(mode, calibration?.modes[key], maxDraftTokens);
  return {
    fewStep,
    speculation,
    underLoad: isAsked || speculation === null ? 0 : underLoadOf(fewStep, input, calibration),
    lowTimesteps: input.quality === 'low' && fewStep === 0,
  };
}

function candidateOf(input: AccelerationInput, calibration: Calibration | null, byServer: DefaultAcceleration): Candidate {
  const { mode, few_step: fewStep } = input.acceleration ?? {};
  if (mode !== undefined && mode !== 'auto') return { acceleration: { mode, fewStep: fewStep ?? 0 }, isAsked: true };
  // So many jumps, and drafts if they make that faster.
  if (fewStep !== undefined && fewStep > 0) {
    return { acceleration: fastest(calibration, [{ mode: 'off', fewStep }, { mode: 'relaxed', fewStep }]) ?? { mode: 'off', fewStep }, isAsked: true };
  }
  // The model's own sampler, and drafts if they make that faster.
  if (fewStep === 0) return { acceleration: fastest(calibration, [{ mode: 'exact', fewStep }, { mode: 'relaxed', fewStep }]) ?? VANILLA, isAsked: false };
  if (mode === 'auto') return { acceleration: accelerationOf('auto', calibration), isAsked: false };
  switch (input.quality) {
    case 'high':
    case 'hd':
      return { acceleration: VANILLA, isAsked: false };
    case 'low':
      return { acceleration: byServer === 'off' ? VANILLA : fewestSteps(calibration), isAsked: false };
    default:
      return { acceleration: accelerationOf(byServer, calibration), isAsked: false };
  }
}

/** Of those whose guard passed and which are faster than `off`; null: none. */
function fastest(calibration: Calibration | null, candidates: readonly Acceleration[]): Acceleration | null {
  const speed = (candidate: Acceleration): number => {
    const mode = calibrated(calibration, candidate);
    return mode?.guard.passed === true && mode.speedup > 1 ? mode.speedup : 0;
  };
  const best = [...candidates].sort((a, b) => speed(b) - speed(a))[0];
  return best === undefined || speed(best) === 0 ? null : best;
}

/** The fewest jumps there are, whether or not its guard passed: that is what `low` asks for. With drafts where that is faster. */
function fewestSteps(calibration: Calibration | null): Acceleration {
  for (const fewStep of FEW_STEPS) {
    const plain = calibrated(calibration, { mode: 'off', fewStep });
    const drafting = calibrated(calibration, { mode: 'relaxed', fewStep });
    if (plain === undefined && drafting === undefined) continue;
    return { mode: (drafting?.speedup ?? 0) > (plain?.speedup ?? 0) ? 'relaxed' : 'off', fewStep };
  }
  return VANILLA;
}

/** The same jumps without drafts, or the fastest whose guard passed; 0: none, or none that the request leaves open. */
function underLoadOf(fewStep: FewStep, input: AccelerationInput, calibration: Calibration | null): FewStep {
  if (input.acceleration?.few_step !== undefined) return 0;
  const open = fewStep > 0 ? { mode: 'off' as const, fewStep } : fastest(calibration, FEW_STEPS.map((count) => ({ mode: 'off', fewStep: count })));
  return open === null || refusalOf(open, input, calibration, false) !== null ? 0 : open.fewStep;
}

function calibrated(calibration: Calibration | null, acceleration: Acceleration): CalibratedMode | undefined {
  const key = modeKeyOf(acceleration);
  return key === null ? undefined : calibration?.modes[key];
}

/** Why the combination cannot be drawn for this request; null: it can. */
function refusalOf(acceleration: Acceleration, input: AccelerationInput, calibration: Calibration | null, isAsked: boolean): Refusal | null {
  const { mode, fewStep } = acceleration;
  if (mode === 'off' && fewStep === 0) return null;
  if (mode === 'exact' && fewStep > 0) {
    return { param: 'acceleration.few_step', message: 'Exact speculation keeps the law of the model\'s own sampler, which a few-step head does not have. Use few_step 0, or mode "relaxed".' };
  }
  if (calibration === null || calibrated(calibration, acceleration) === undefined) return uncalibrated(acceleration, calibration);
  // Guidance and sampler are in the few-step head's weights. Tolerances of `relaxed` hold for what they were measured with.
  // Exact speculation keeps whatever law the request asks for, so who asks for it gets it.
  if (mode === 'exact' && isAsked) return null;
  const what = fewStep > 0 ? `few_step ${fewStep}` : `acceleration.mode "${mode}"`;
  const fix = (value: string): string => `${what} was made for ${value}; leave it out, or use acceleration {"mode": "off", "few_step": 0}.`;
  if (input.num_inference_steps !== undefined && (fewStep > 0 || input.num_inference_steps !== calibration.timesteps)) {
    return { param: 'num_inference_steps', message: fix(fewStep > 0 ? `${fewStep === 1 ? 'one jump' : `${fewStep} jumps`} per ${calibration.sampler === 'maruyama' ? 'pass' : 'token'}` : `${calibration.timesteps} timesteps`) };
  }
  if (fewStep === 0 && input.quality === 'low' && input.num_inference_steps === undefined) {
    return { param: 'quality', message: fix(`${calibration.timesteps} timesteps, and quality "low" draws with fewer`) };
  }
  if (input.guidance_scale !== undefined && input.guidance_scale !== calibration.guidance_scale) {
    return { param: 'guidance_scale', message: fix(`guidance_scale ${calibration.guidance_scale}`) };
  }
  if (input.negative_prompt !== undefined && input.negative_prompt !== calibration.negative_prompt) {
    return { param: 'negative_prompt', message: fix(calibration.negative_prompt === '' ? 'no negative prompt' : `the negative prompt ${JSON.stringify(calibration.negative_prompt)}`) };
  }
  return null;
}

function uncalibrated({ mode, fewStep }: Acceleration, calibration: Calibration | null): Refusal {
  if (fewStep > 0 && (mode === 'off' || calibrated(calibration, { mode: 'off', fewStep }) === undefined)) {
    const steps = FEW_STEPS.filter((count) => calibrated(calibration, { mode: 'off', fewStep: count }) !== undefined);
    const offer = steps.length === 0 ? 'This model has no calibrated few-step head; use 0 or leave it out.' : `This model draws with few_step ${[0, ...steps].join(', ')}.`;
    return { param: 'acceleration.few_step', message: offer };
  }
  const suffix = fewStep > 0 ? ` with few_step ${fewStep}` : '';
  return { param: 'acceleration.mode', message: `This model has no calibration for "${mode}"${suffix}; use "auto" or "off".` };
}

function speculationOf(mode: 'exact' | 'relaxed', found: CalibratedMode | undefined, limit: number): SpeculationSpec | null {
  if (found?.speculation == null) return null;
  const { drafting, max_draft_tokens: calibratedMost, tolerance, acceptance, gate, costs, draft_jumps: draftJumps } = found.speculation;
  const jumps = draftJumps === undefined ? {} : { draftJumps };
  return { mode, drafting, maxDraftTokens: Math.min(limit, calibratedMost), tolerance, gate, costs, acceptance, adaptive: true, trace: false, ...jumps };
}
