import { acceptanceOf } from '../../src/calibration/costs.js';
import { tokensOf } from '../../src/calibration/draw.js';
import { evaluate, guardPrompts, OTHER_SEEDS, referenceOf } from '../../src/calibration/evaluate.js';
import { fitGate, type FittedGate } from '../../src/calibration/gate.js';
import { openStudio } from '../../src/calibration/open-studio.js';
import { scoresOf } from '../../src/calibration/quality-sample.js';
import { wayOf, type SpeculationSettings } from '../../src/calibration/settings.js';
import { predictDrawn } from '../../src/calibration/speed-model.js';
import { drawAll, type Studio } from '../../src/calibration/studio.js';
import { judgedDrafts, type JudgedDraft } from '../../src/calibration/trace.js';
import type { Engine } from '../../src/engine/engine.js';
import type { RoundRecord } from '../../src/engine/native-types.js';
import { bootstrapDistance } from '../../src/quality/frechet.js';
import type { QualityPack } from '../../src/quality/pack.js';
import { seededIntegers } from '../../src/quality/random.js';
import { gateOf, type GateName } from './gates.js';

const COMBINATION = { mode: 'relaxed', fewStep: 1 } as const;
/** Pictures that gates are fitted on: other seeds than those that are judged. */
const TRACED = 128;
const RESAMPLES = 300;

export interface MeasureOptions {
  pack: QualityPack;
  batch: number;
  pictures: number;
  settings: SpeculationSettings;
}

/** One draft model in the engine, and what was seen of its drafts without a gate. */
export interface Measure extends MeasureOptions {
  studio: Studio;
  fitted: FittedGate;
  rounds: readonly RoundRecord[];
  close(): Promise<void>;
}

export async function openMeasure(engine: Engine, directory: string, folder: string, options: MeasureOptions): Promise<Measure> {
  const studio = await openStudio(engine, directory, folder, options.batch);
  const drafts: JudgedDraft[][] = [];
  const rounds: RoundRecord[] = [];
  let numTokens = 0;
  const way = wayOf(COMBINATION, { ...options.settings, gate: { kind: 'off' } }, { adaptive: false, trace: true });
  const { fd: traced } = guardPrompts(options.pack, { fdPictures: TRACED, concepts: 0, seedsPerConcept: 1 }, OTHER_SEEDS);
  await drawAll(studio, traced, (vanilla) => {
    numTokens = tokensOf(vanilla);
    return way(vanilla);
  }, ({ decode }) => {
    drafts.push(judgedDrafts(decode, studio.model.info.accelerator.draftLayers));
    rounds.push(...(decode.rounds ?? []));
  });
  return { ...options, studio, fitted: fitGate(drafts, numTokens), rounds, close: () => studio.model.unload() };
}

export interface DraftRow {
  /** Of the entropies of the layer that tells most, alone; 0.5 is nothing. */
  auc: number;
  tokensPerRound: number;
  draftsPerRound: number;
  /** Of drafts that were judged. */
  kept: number;
  /** Rounds that the gate ended. */
  stopped: number;
  /** Tokens in the time of one of vanilla's, by the stored costs. */
  rate: number;
  fd: number;
  fdInterval: readonly [number, number];
  adherence: number;
}

/** Null: the gate has no rule here, because entropies say nothing of these drafts. */
export async function measureDraft(measure: Measure, gateName: GateName): Promise<DraftRow | null> {
  const { studio, pack, pictures, settings, fitted } = measure;
  const gate = gateOf(gateName, fitted, measure.rounds, settings);
  if (gate === null) return null;
  const prompts = guardPrompts(pack, { fdPictures: pictures, concepts: pack.concepts.length, seedsPerConcept: 2 });
  const { sample, rounds } = await evaluate(studio, pack, prompts, wayOf(COMBINATION, { ...settings, gate }, { adaptive: false }));
  const { fd, adherence } = scoresOf(sample, referenceOf(pack));
  const { low, high } = bootstrapDistance(sample.features, referenceOf(pack), RESAMPLES, seededIntegers(3));
  const perRound = (of: (round: RoundRecord) => number): number => rounds.reduce((sum, round) => sum + of(round), 0) / rounds.length;
  return {
    auc: Math.max(...fitted.report.layers.map(({ auc }) => auc)),
    tokensPerRound: 1 + perRound(({ accepted }) => accepted),
    draftsPerRound: perRound(({ drafted }) => drafted),
    kept: acceptanceOf(rounds),
    stopped: perRound(({ gateStopped }) => Number(gateStopped)),
    rate: predictDrawn(settings.costs, rounds),
    fd,
    fdInterval: [low, high],
    adherence,
  };
}

export const HEADER = ['draft', 'gate', 'auc', 'tokens_per_round', 'drafts_per_round', 'kept', 'stopped', 'rate', 'fd', 'fd_low', 'fd_high', 'adherence'];

export function lineOf(draft: string, gate: GateName, row: DraftRow | null): string[] {
  if (row === null) return [draft, gate, ...HEADER.slice(2).map(() => '')];
  const { auc, tokensPerRound, draftsPerRound, kept, stopped, rate, fd, fdInterval, adherence } = row;
  return [draft, gate, ...[auc, tokensPerRound, draftsPerRound, kept, stopped, rate, fd, ...fdInterval, adherence].map((value) => value.toFixed(3))];
}
