import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { predictBest, predictDrawn } from '../../src/calibration/speed-model.js';
import { PACKAGE_ROOT } from '../../src/engine/native.js';
import type { EngineInfo } from '../../src/engine/native-types.js';
import type { Calibration } from '../../src/model/accelerator.js';
import { describeCommit, resultSlug, type Machine } from '../report.js';
import { spreadOf, type Spread } from '../stats.js';
import type { CachesReport } from './caches.js';
import { latencyQualityPlot } from './plot.js';
import type { QualityResult, WayQuality } from './quality.js';
import { speedup, tokensPerRound, type WaySpeed } from './speed.js';
import { VANILLA, type BenchWay, type Column } from './ways.js';

/** The result file, and what `--json` prints. Times in milliseconds, rates in pictures per second, ratios to `off`. */
export interface AccelerationReport {
  machine: Machine & { threads: number; dtype: string };
  commit: string;
  date: string;
  batch: number;
  /** Of one picture at a time. Null: the folder has no such mode. */
  speedup: Record<Column, number | null>;
  speedup_together: Record<Column, number | null>;
  /** Which mode stands for each column. */
  column_modes: Record<Column, string | null>;
  /** Of `both`; 1: it never drafts. Null of passes, of which a round is one whatever becomes of its draft. */
  tokens_per_round: number | null;
  quality: Record<'vanilla' | Column, Pick<WayQuality, 'adherence' | 'fd' | 'fd_interval'> | null> | null;
  /** What `--throughput` draws by in a full batch: few steps without drafts. Bytes then depend on the load. */
  throughput: { mode: string; images_per_second: Spread; speedup: Spread } | null;
  exact: ExactReport | null;
  /** Null: the family has none that can be left out. */
  caches: CachesReport | null;
  vanilla_spread: QualityResult['spread'];
  modes: Record<string, ModeReport>;
}

/** The cost model against the clock, for the tokens' part of a picture. */
interface ExactReport {
  /** Best γ at the calibrated acceptance, and what it should gain; γ = 0 gains 1. */
  predicted_drafts: number;
  predicted: number;
  /** What the stored costs say of the rounds that were drawn. */
  predicted_for_drawn_rounds: number;
  measured: number;
  measured_over_predicted: number;
}

interface ModeReport {
  latency_ms: Spread;
  speedup: Spread;
  images_per_second: Spread | null;
  speedup_together: Spread | null;
  tokens_per_round: number | null;
  rounds: { count: number; drafted: number; accepted: number; plain: number; gate_stops: number } | null;
  time_share: WaySpeed['share'];
  guard_passed: boolean | null;
  quality: WayQuality | null;
}

export interface ReportInput {
  machine: Machine;
  engine: EngineInfo;
  calibration: Calibration;
  columns: Record<Column, BenchWay | undefined>;
  ways: readonly BenchWay[];
  speed: ReadonlyMap<string, WaySpeed>;
  quality: QualityResult | null;
  caches: CachesReport | null;
  batch: number;
}

export function buildReport(input: ReportInput): AccelerationReport {
  const { machine, engine, columns, ways, quality, batch } = input;
  const modes: Record<string, ModeReport> = {};
  for (const way of [VANILLA, ...ways]) modes[way.name] = modeReport(way, input);
  const inColumns = <T>(of: (mode: ModeReport, way: BenchWay) => T): Record<Column, T | null> => {
    const value = (column: Column): T | null => {
      const way = columns[column];
      return way === undefined ? null : of(modes[way.name]!, way);
    };
    return { few_step: value('few_step'), exact: value('exact'), relaxed: value('relaxed'), both: value('both') };
  };
  const brief = (found: WayQuality | null) => (found === null ? null : { adherence: found.adherence, fd: found.fd, fd_interval: found.fd_interval });
  // Classes are always drawn as asked.
  const few = columns.few_step === undefined || isOfPasses(input.calibration) ? undefined : modes[columns.few_step.name];
  return {
    machine: { ...machine, threads: engine.threads, dtype: engine.dtype },
    commit: describeCommit(),
    date: new Date().toISOString(),
    batch,
    speedup: inColumns((mode) => digits(mode.speedup.median)),
    speedup_together: inColumns((mode) => (mode.speedup_together === null ? null : digits(mode.speedup_together.median))),
    column_modes: inColumns((_, way) => way.name),
    tokens_per_round: columns.both === undefined ? null : modes[columns.both.name]!.tokens_per_round,
    quality: quality === null ? null : { vanilla: brief(modes[VANILLA.name]!.quality), ...inColumns((mode) => brief(mode.quality)) },
    throughput: few?.images_per_second == null ? null : { mode: columns.few_step!.name, images_per_second: few.images_per_second, speedup: few.speedup_together! },
    exact: columns.exact === undefined ? null : exactReport(columns.exact, input),
    caches: input.caches,
    vanilla_spread: quality?.spread ?? null,
    modes,
  };
}

function isOfPasses({ sampler }: Calibration): boolean {
  return sampler === 'maruyama';
}

function modeReport(way: BenchWay, { speed, quality, batch, calibration }: ReportInput): ModeReport {
  const { alone, together, rounds, share } = speed.get(way.name)!;
  const vanilla = speed.get(VANILLA.name)!;
  const total = (field: 'drafted' | 'accepted'): number => rounds.reduce((sum, round) => sum + round[field], 0);
  return {
    latency_ms: scaled(spreadOf(alone), 1e3),
    speedup: scaled(speedup(vanilla.alone, alone), 1),
    images_per_second: together.length === 0 ? null : scaled(spreadOf(together.map((seconds) => batch / seconds)), 1),
    speedup_together: together.length === 0 ? null : scaled(speedup(vanilla.together, together), 1),
    tokens_per_round: way.settings === null || isOfPasses(calibration) ? null : digits(tokensPerRound(rounds)),
    rounds:
      way.settings === null
        ? null
        : {
            count: rounds.length,
            drafted: total('drafted'),
            accepted: total('accepted'),
            plain: rounds.filter(({ drafted }) => drafted === 0).length,
            gate_stops: rounds.filter(({ gateStopped }) => gateStopped).length,
          },
    time_share: share,
    guard_passed: way.mode?.guard.passed ?? null,
    quality: quality?.ways.get(way.name) ?? null,
  };
}

function exactReport({ name, settings }: BenchWay, { speed, calibration }: ReportInput): ExactReport | null {
  if (settings === null || calibration.modes.exact === undefined) return null;
  const { alone, rounds, share } = speed.get(name)!;
  const vanilla = speed.get(VANILLA.name)!;
  // Prompt and picture decode are the same on both sides; the model speaks of tokens.
  const tokens = (times: readonly number[], { vae, other }: WaySpeed['share']): number[] => times.map((seconds) => seconds * (1 - vae - other));
  const measured = speedup(tokens(vanilla.alone, vanilla.share), tokens(alone, share)).median;
  const { drafts, rate } = predictBest(settings.costs, settings.acceptance, settings.maxDraftTokens);
  return {
    predicted_drafts: drafts,
    predicted: digits(rate),
    predicted_for_drawn_rounds: digits(predictDrawn(settings.costs, rounds)),
    measured: digits(measured),
    measured_over_predicted: digits(measured / rate),
  };
}

export function printReport(report: AccelerationReport): void {
  const { machine, modes, batch, exact, throughput, caches } = report;
  console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.isa}, ${machine.dtype}, ${machine.threads} threads, Node ${machine.node}, ${machine.libraries}`);
  console.log(`\n| way | one picture, ms | speedup | ${batch} at once, images/s | speedup | tokens/round | FD (95 %) | adherence | equal to vanilla |\n|---|---|---|---|---|---|---|---|---|`);
  for (const [name, mode] of Object.entries(modes)) console.log(`| ${[name, ...cells(mode)].join(' | ')} |`);
  console.log('\n| share of engine time, one picture | backbone | head | draft | verify | vae | other |\n|---|---|---|---|---|---|---|');
  for (const [name, { time_share: share }] of Object.entries(modes)) {
    console.log(`| ${[name, ...[share.backbone, share.head, share.draft, share.verify, share.vae, share.other].map((value) => `${(100 * value).toFixed(0)}%`)].join(' | ')} |`);
  }
  if (exact !== null) {
    console.log(`\nexact: the cost model predicts ${exact.predicted}x with γ = ${exact.predicted_drafts}; measured ${exact.measured}x of the tokens, ${(100 * exact.measured_over_predicted).toFixed(0)}% of it`);
  }
  if (caches !== null) {
    const worth = Object.entries(caches.speedup).map(([name, ratio]) => `${name} ${spread(ratio)}x`);
    console.log(`\nthe caches alone, one picture, same bytes without: ${worth.join(', ')}. Left out:\n${caches.off.map((one) => `- ${one}`).join('\n')}`);
  }
  if (throughput !== null) console.log(`--throughput, ${batch} at once: ${throughput.mode}, ${spread(throughput.images_per_second)} images/s, ${spread(throughput.speedup)}x`);
}

function cells(mode: ModeReport): string[] {
  const { quality } = mode;
  return [
    spread(mode.latency_ms),
    `${spread(mode.speedup)}x`,
    mode.images_per_second === null ? '' : spread(mode.images_per_second),
    mode.speedup_together === null ? '' : `${spread(mode.speedup_together)}x`,
    mode.tokens_per_round === null ? '' : String(mode.tokens_per_round),
    quality === null ? '' : `${quality.fd.toFixed(3)} (${quality.fd_interval.map((value) => value.toFixed(3)).join(' … ')})`,
    quality === null ? '' : quality.adherence.toFixed(3),
    quality?.equal_to_vanilla == null ? '' : quality.equal_to_vanilla ? 'yes' : `no: ${quality.faults.join('; ')}`,
  ];
}

function spread({ median, min, max }: Spread): string {
  return `${digits(median)} (${digits(min)} … ${digits(max)})`;
}

/** `suffix`: of a model that is not the first family's. */
export function saveReport(report: AccelerationReport, suffix = ''): string[] {
  const folder = join(PACKAGE_ROOT, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `acceleration${suffix}-${resultSlug(report.machine)}.json`);
  writeFileSync(path, `${JSON.stringify(report, null, 1)}\n`);
  const plot = latencyQualityPlot(
    Object.entries(report.modes).flatMap(([name, { latency_ms: latency, quality }]) => (quality === null ? [] : [{ name, latency, quality }])),
  );
  if (plot === null) return [path];
  const plotPath = join(PACKAGE_ROOT, 'docs', `acceleration${suffix}.svg`);
  writeFileSync(plotPath, plot);
  return [path, plotPath];
}

function scaled({ median, min, max, rounds }: Spread, factor: number): Spread {
  return { median: digits(median * factor), min: digits(min * factor), max: digits(max * factor), rounds };
}

function digits(value: number): number {
  return Number(value.toPrecision(4));
}
