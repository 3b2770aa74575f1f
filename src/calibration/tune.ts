import type { EntropyGate } from '../engine/native-types.js';
import type { Acceleration } from '../model/accelerator.js';
import type { Prompt } from '../quality/pack.js';
import { acceptanceOf, fitCosts } from './costs.js';
import { breakEven, fitGate, type FittedGate } from './gate.js';
import { fewStepWay, UNMEASURED, wayOf, type SpeculationSettings } from './settings.js';
import { predictBest } from './speed-model.js';
import { drawAll, type Studio, type Way } from './studio.js';
import { meanOf, timeWays, type PictureTime } from './timing.js';
import { judgedDrafts, type JudgedDraft } from './trace.js';
import { tokensOf } from './draw.js';
import type { RoundRecord } from '../engine/native-types.js';

export type GateChoice = 'auto' | EntropyGate['kind'];

export interface TuneOptions {
  gate: GateChoice;
  /** Drawn alone, one after the other. */
  timingPrompts: readonly Prompt[];
  repetitions: number;
  /** Drawn in batches for acceptance and gate. */
  tracePrompts: readonly Prompt[];
}

/** One setting that was timed. */
export interface Trial {
  settings: SpeculationSettings;
  /** Of whole pictures, against vanilla in the same run. */
  speedup: number;
  /** Of the tokens' part alone, which is what the cost model speaks of: measured, and predicted from the stored costs. */
  tokenSpeedup: number;
  predicted: number;
  tokensPerRound: number;
}

export interface Tuned {
  best: Trial;
  trials: Trial[];
  /** Null where nothing is there to be gated. */
  gate: FittedGate | null;
  /** Largest relative error of the fitted costs; null where none were fitted. */
  costError: number | null;
}

/** γ at which rounds are timed, and the largest γ that is offered to the adaptive rule. */
const TIMED_LENGTHS = [1, 3, 6];
const MAX_DRAFTS = [1, 2, 4, 8];
const DRAFTINGS = ['sequential', 'parallel'] as const;
const TRACED_LENGTH = 4;

/** Costs, acceptance and gate of one mode at one tolerance, and the settings that are fastest by the clock. */
export async function tune(studio: Studio, combination: Acceleration, tolerance: number, options: TuneOptions): Promise<Tuned> {
  const times = await timeLengths(studio, combination, tolerance, options);
  const trials: { settings: SpeculationSettings; predicted: number }[] = [];
  let gate: FittedGate | null = null;
  let costError = 0;
  for (const drafting of DRAFTINGS) {
    const { costs, worstError } = fitCosts(times.vanilla, times.plain, TIMED_LENGTHS.map((length) => times.rounds[`${drafting}:${length}`]!));
    const traced = await trace(studio, combination, { drafting, maxDraftTokens: TRACED_LENGTH, tolerance, ...UNMEASURED }, options.tracePrompts);
    const acceptance = acceptanceOf(traced.rounds);
    const fitted = fitGate(traced.drafts, traced.numTokens);
    if (drafting === 'sequential') gate = fitted;
    costError = Math.max(costError, worstError);
    const { rate } = predictBest(costs, acceptance, Math.max(...MAX_DRAFTS));
    for (const rule of gatesToTry(options.gate, fitted, breakEven(costs, rate))) {
      for (const maxDraftTokens of MAX_DRAFTS) {
        trials.push({ settings: { drafting, maxDraftTokens, tolerance, gate: rule, costs, acceptance }, predicted: predictBest(costs, acceptance, maxDraftTokens).rate });
      }
    }
  }
  const timed = await timeTrials(studio, combination, worthTiming(trials), options);
  const chosen = chooseTrial(timed);
  // Timed anew: the fastest of many is always a little lucky, and luck is not stored.
  const [best] = await timeTrials(studio, combination, [chosen], { ...options, repetitions: 2 * options.repetitions });
  return { best: best!, trials: timed, gate, costError };
}

/** The cost model is right to some percent, so what it puts far behind need not be timed; where nothing should draft, one will do. */
export function worthTiming<T extends { predicted: number; settings: Pick<SpeculationSettings, 'costs'> }>(trials: readonly T[]): T[] {
  const CLOSE = 0.85;
  const best = Math.max(...trials.map(({ predicted }) => predicted));
  const drafting = trials.filter(({ predicted, settings }) => predicted >= CLOSE * best && predicted > 1 / settings.costs.plain);
  return drafting.length > 0 ? drafting : trials.slice(0, 1);
}

/** Below this, times of two settings are the same; then the simpler one is taken, which is the earlier. */
const SAME = 0.02;

export function chooseTrial<T extends { speedup: number }>(trials: readonly T[]): T {
  const fastest = Math.max(...trials.map(({ speedup }) => speedup));
  return trials.find(({ speedup }) => speedup >= fastest * (1 - SAME))!;
}

async function timeLengths(studio: Studio, combination: Acceleration, tolerance: number, { timingPrompts, repetitions }: TuneOptions) {
  const ways: Record<string, Way> = { vanilla: fewStepWay(0) };
  // Without jumps a plain step is vanilla's, and 1 by definition.
  if (combination.fewStep > 0) ways['plain'] = fewStepWay(combination.fewStep);
  for (const drafting of DRAFTINGS) {
    for (const length of TIMED_LENGTHS) {
      ways[`${drafting}:${length}`] = wayOf(combination, { drafting, maxDraftTokens: length, tolerance, ...UNMEASURED }, { adaptive: false });
    }
  }
  const { vanilla, plain, ...rounds } = await timeWays(studio, ways, timingPrompts, repetitions);
  return { vanilla: vanilla!, plain: plain ?? vanilla!, rounds };
}

interface Traced {
  /** By picture. */
  drafts: JudgedDraft[][];
  rounds: RoundRecord[];
  numTokens: number;
}

/** Without a gate and with a fixed γ, so that nothing but the drafts themselves decides which ones are seen. */
async function trace(studio: Studio, combination: Acceleration, settings: SpeculationSettings, prompts: readonly Prompt[]): Promise<Traced> {
  const { draftLayers } = studio.model.info.accelerator;
  const traced: Traced = { drafts: [], rounds: [], numTokens: 0 };
  const way = wayOf(combination, settings, { adaptive: false, trace: true });
  const noting: Way = (vanilla) => {
    traced.numTokens = tokensOf(vanilla);
    return way(vanilla);
  };
  await drawAll(studio, prompts, noting, ({ decode }) => {
    traced.drafts.push(judgedDrafts(decode, draftLayers));
    traced.rounds.push(...(decode.rounds ?? []));
  });
  return traced;
}

function gatesToTry(choice: GateChoice, fitted: FittedGate, threshold: number): EntropyGate[] {
  const logistic: EntropyGate[] = fitted.logistic === null ? [] : [{ kind: 'logistic', ...fitted.logistic, threshold }];
  const all: EntropyGate[] = [{ kind: 'off' }, fitted.paper, ...logistic];
  const chosen = all.filter(({ kind }) => choice === 'auto' || kind === choice);
  // A logistic rule was asked for, and entropies say nothing here: then there is no gate.
  return chosen.length > 0 ? chosen : [{ kind: 'off' }];
}

async function timeTrials(
  studio: Studio,
  combination: Acceleration,
  trials: readonly { settings: SpeculationSettings; predicted: number }[],
  { timingPrompts, repetitions }: TuneOptions,
): Promise<Trial[]> {
  const ways: Record<string, Way> = { vanilla: fewStepWay(0) };
  for (const [i, { settings }] of trials.entries()) ways[`trial:${i}`] = wayOf(combination, settings);
  const times = await timeWays(studio, ways, timingPrompts, repetitions);
  const vanilla = times['vanilla']!;
  return trials.map((trial, i) => ({ ...trial, ...compare(vanilla, times[`trial:${i}`]!) }));
}

function compare(vanilla: readonly PictureTime[], times: readonly PictureTime[]): Omit<Trial, 'settings' | 'predicted'> {
  const rounds = meanOf(times, 'rounds');
  return {
    speedup: meanOf(vanilla, 'total') / meanOf(times, 'total'),
    tokenSpeedup: meanOf(vanilla, 'decode') / meanOf(times, 'decode'),
    tokensPerRound: rounds === 0 ? 1 : 1 + meanOf(times, 'accepted') / rounds,
  };
}
