import type { Acceleration, ModeKey } from '../model/accelerator.js';
import { modeKeyOf } from '../model/accelerator.js';
import type { Gaussian } from '../quality/frechet.js';
import type { Prompt, QualityPack } from '../quality/pack.js';
import { seededIntegers } from '../quality/random.js';
import { evaluate, guardPrompts, OTHER_SEEDS, referenceOf, type GuardPrompts, type GuardSize } from './evaluate.js';
import type { GateReport } from './gate.js';
import { judge, vanillaSpread, type VanillaSpread, type Verdict } from './guard.js';
import { conceptScores, type QualitySample } from './quality-sample.js';
import { fewStepWay, wayOf, type SpeculationSettings } from './settings.js';
import type { Studio, Way } from './studio.js';
import { meanOf, timeWays } from './timing.js';
import { hasUndraftedTwin, strictDrafts, toleranceCandidates } from './tolerance.js';
import { draftJumpsOf, tunePasses, type DraftJumps } from './tune-passes.js';
import { tune, type GateChoice, type Trial, type Tuned, type TuneOptions } from './tune.js';

export interface CalibrationOptions {
  guard: GuardSize;
  /** Pictures drawn alone for times, and how often each. */
  timedPictures: number;
  repetitions: number;
  /** Pictures for acceptance, gate and tolerances. */
  tracedPictures: number;
  tolerances: number;
  resamples: number;
  gate: GateChoice;
  /** Try all tolerances, although looser ones than the first that fails are never stored. */
  explore: boolean;
  /** Which modes; all that the folder can do where it is empty. */
  only: readonly ModeKey[];
}

export interface CalibratedMode {
  key: ModeKey;
  combination: Acceleration;
  verdict: Verdict;
  speedup: number;
  /** Null: the mode does not draft. */
  trial: Trial | null;
  settings: SpeculationSettings | null;
  gate: GateReport | null;
  costError: number | null;
  /** Relaxed: every tolerance that was tried, strict to loose, and how it did. */
  tolerances: { tolerance: number; speedup: number; fdDifference: number; passed: boolean }[];
}

export interface CalibrationResult {
  modes: CalibratedMode[];
  spread: VanillaSpread;
  auto: Acceleration;
}

/** Nobody changes the law of the pictures, or even the code that draws them, for less than times can be told apart. */
const LEAST_SPEEDUP = 1.03;

/** What `auto` is chosen among. trial: null where the mode does not draft. */
export interface Candidate {
  combination: Acceleration;
  verdict: { passed: boolean };
  speedup: number;
  trial: { tokensPerRound: number } | null;
}

/**
 * The fastest mode whose guard passed and that is faster than vanilla by more than the clock's noise; else vanilla. A mode whose
 * drafts did not pay, so that it drew as its base does, is left to that: between the two there is only noise to choose by.
 */
export function fastest(modes: readonly Candidate[]): Acceleration {
  const drafts = ({ trial }: Candidate): boolean => trial === null || trial.tokensPerRound >= LEAST_SPEEDUP;
  const eligible = modes.filter((mode) => mode.verdict.passed && mode.speedup >= LEAST_SPEEDUP && drafts(mode));
  return eligible.sort((a, b) => b.speedup - a.speedup)[0]?.combination ?? { mode: 'off', fewStep: 0 };
}

export async function calibrate(
  studio: Studio,
  pack: QualityPack,
  combinations: readonly Acceleration[],
  options: CalibrationOptions,
  log: (line: string) => void,
): Promise<CalibrationResult> {
  log(`vanilla, two sets of seeds: ${2 * guardPictures(options.guard)} pictures`);
  const session = await openSession(studio, pack, options, log);
  const modes: CalibratedMode[] = [];
  for (const combination of combinations) {
    const key = modeKeyOf(combination);
    if (key === null || (options.only.length > 0 && !options.only.includes(key))) continue;
    modes.push(combination.mode === 'off' ? await session.plain(key, combination) : await session.speculating(key, combination));
  }
  return { modes, spread: session.spread, auto: fastest(modes) };
}

export function guardPictures({ fdPictures, concepts, seedsPerConcept }: GuardSize): number {
  return fdPictures + concepts * seedsPerConcept;
}

async function openSession(studio: Studio, pack: QualityPack, options: CalibrationOptions, log: (line: string) => void): Promise<Session> {
  const prompts = guardPrompts(pack, options.guard);
  const { sample: vanilla } = await evaluate(studio, pack, prompts, fewStepWay(0));
  const { sample: other } = await evaluate(studio, pack, guardPrompts(pack, options.guard, OTHER_SEEDS), fewStepWay(0));
  const reference = referenceOf(pack);
  const spread = vanillaSpread(vanilla, other, reference, options.resamples, seededIntegers(1));
  const fineDiversity = await fineDiversityOf(studio, pack, options.guard, log);
  return new Session(studio, pack, options, log, prompts, vanilla, spread, reference, fineDiversity);
}

/** Timesteps with which a sampler is taken to draw the model's own law (docs/contract.md, Quality). */
const FINE_TIMESTEPS = 100;

/**
 * Of a model that draws in passes, whose few timesteps leave much noise. One that draws token by token is held to vanilla's own diversity, the
 * stricter rule.
 */
async function fineDiversityOf(studio: Studio, pack: QualityPack, size: GuardSize, log: (line: string) => void): Promise<number> {
  if (studio.served.promptMode === 'text') return Infinity;
  const prompts = guardPrompts(pack, { ...size, fdPictures: 0, seedsPerConcept: 2 });
  log(`vanilla with ${FINE_TIMESTEPS} timesteps: ${prompts.concepts.length} pictures`);
  const { sample } = await evaluate(studio, pack, prompts, (vanilla) => ({ ...vanilla, timesteps: FINE_TIMESTEPS }));
  return conceptScores(sample.concepts).diversity;
}

interface Tried {
  tuned: Tuned;
  verdict: Verdict;
}

interface ToTry {
  tolerance: number;
  tuneAt: () => Promise<Tuned>;
}

/** What all modes of one calibration are measured against. */
class Session {
  private readonly tuning: TuneOptions;

  constructor(
    private readonly studio: Studio,
    private readonly pack: QualityPack,
    private readonly options: CalibrationOptions,
    private readonly log: (line: string) => void,
    private readonly prompts: GuardPrompts,
    private readonly vanilla: QualitySample,
    readonly spread: VanillaSpread,
    private readonly reference: Gaussian,
    private readonly fineDiversity: number,
  ) {
    // Held out: other seeds than those that judge, so that no threshold is fitted to its own examiner.
    const heldOut: readonly Prompt[] = pack.fdPrompts.map(({ prompt, seed }) => ({ prompt, seed: seed + 2 * OTHER_SEEDS }));
    this.tuning = {
      gate: options.gate,
      timingPrompts: heldOut.slice(0, options.timedPictures),
      repetitions: options.repetitions,
      tracePrompts: heldOut.slice(0, options.tracedPictures),
    };
  }

  async plain(key: ModeKey, combination: Acceleration): Promise<CalibratedMode> {
    const way = fewStepWay(combination.fewStep);
    const { vanilla, plain } = await timeWays(this.studio, { vanilla: fewStepWay(0), plain: way }, this.tuning.timingPrompts, this.options.repetitions);
    const speedup = meanOf(vanilla, 'total') / meanOf(plain, 'total');
    const verdict = await this.judge(key, way);
    return { key, combination, verdict, speedup, trial: null, settings: null, gate: null, costError: null, tolerances: [] };
  }

  async speculating(key: ModeKey, combination: Acceleration): Promise<CalibratedMode> {
    const tried: Tried[] = [];
    const chosen: Tried[] = [];
    for (const group of await this.waysToDraft(key, combination)) {
      const ofGroup: Tried[] = [];
      for (const { tolerance, tuneAt } of group) {
        const tuned = await tuneAt();
        this.log(`${key}: tolerance ${tolerance.toPrecision(3)}, ${tuned.best.speedup.toFixed(2)}x, ${tuned.best.tokensPerRound.toFixed(2)} tokens a round`);
        const verdict = await this.judge(key, wayOf(combination, tuned.best.settings));
        ofGroup.push({ tuned, verdict });
        if (!verdict.passed && !this.options.explore) break;
      }
      // The last before the first fault; where none passed, the strictest, so that the file says why.
      const firstFault = ofGroup.findIndex((entry) => !entry.verdict.passed);
      chosen.push(ofGroup[firstFault < 0 ? ofGroup.length - 1 : Math.max(0, firstFault - 1)]!);
      tried.push(...ofGroup);
    }
    const passed = chosen.filter(({ verdict: { passed: isGood } }) => isGood);
    const { tuned, verdict } = [...(passed.length > 0 ? passed : chosen)].sort((a, b) => b.tuned.best.speedup - a.tuned.best.speedup)[0]!;
    return {
      key,
      combination,
      verdict,
      speedup: tuned.best.speedup,
      trial: tuned.best,
      settings: tuned.best.settings,
      gate: tuned.gate?.report ?? null,
      costError: tuned.costError,
      tolerances: tried.map((entry) => ({
        tolerance: entry.tuned.best.settings.tolerance,
        speedup: entry.tuned.best.speedup,
        fdDifference: entry.verdict.fdDifference,
        passed: entry.verdict.passed,
      })),
    };
  }

  /** Drafts of one kind together, strict to loose. Of passes a kind is a number of jumps: with each, distances are others. */
  private async waysToDraft(key: ModeKey, combination: Acceleration): Promise<ToTry[][]> {
    if (this.studio.served.promptMode === 'text') {
      const tolerances = await this.tolerances(key, combination);
      return [tolerances.map((tolerance) => ({ tolerance, tuneAt: () => tune(this.studio, combination, tolerance, this.tuning) }))];
    }
    const groups: ToTry[][] = [];
    for (const draftJumps of draftJumpsOf(combination)) {
      const tolerances = await this.tolerances(`${key}, drafts of ${draftJumps}`, combination, { draftJumps });
      groups.push(tolerances.map((tolerance) => ({ tolerance, tuneAt: () => tunePasses(this.studio, combination, draftJumps, tolerance, this.tuning) })));
    }
    return groups;
  }

  /** Strict to loose. Exact has none: its law is vanilla's whatever it accepts. */
  private async tolerances(key: string, combination: Acceleration, jumps: { draftJumps?: DraftJumps } = {}): Promise<number[]> {
    if (combination.mode === 'exact') return [0];
    const drafts = await strictDrafts(this.studio, combination, this.tuning.tracePrompts, this.studio.model.info.accelerator.draftLayers, jumps);
    const same = `with tolerance 0 ${this.tuning.tracePrompts.length} pictures are those without drafts, byte for byte`;
    this.log(`${key}: ${hasUndraftedTwin(combination, jumps) ? same : `${drafts.length} drafts judged`}`);
    return toleranceCandidates(drafts.map(({ statistic }) => statistic), this.options.tolerances);
  }

  private async judge(key: ModeKey, way: Way): Promise<Verdict> {
    const { sample } = await evaluate(this.studio, this.pack, this.prompts, way);
    const verdict = judge(sample, this.vanilla, this.spread, this.reference, this.options.resamples, seededIntegers(2), this.fineDiversity);
    this.log(`${key}: ${verdict.passed ? 'passed' : verdict.faults.join('; ')}`);
    return verdict;
  }
}
