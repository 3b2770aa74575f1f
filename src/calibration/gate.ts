import type { EntropyGate } from '../engine/native-types.js';
import { quantile } from '../quality/frechet.js';
import { areaUnderCurve } from './auc.js';
import { fitLogistic, probability } from './logistic.js';
import { mean } from './least-squares.js';
import type { JudgedDraft } from './trace.js';

/** Below this the entropies say too little of a draft's fate to stop by them (0.5 is nothing). */
const LEAST_AUC = 0.55;
const FOLDS = 5;
/** Keeps log(0) out: the smallest statistic that is told from none. As native/speculation/entropy_gate.cpp. */
const LEAST_STATISTIC = 1e-6;

/** How well acceptance can be told before a token is drawn, each figure from folds that the fit had not seen. */
export interface GateReport {
  drafts: number;
  acceptance: number;
  /** What acceptance depends on: exact, the path gap D between draft and target; relaxed, the distance that is compared with the tolerance. */
  statistic: { median: number; p90: number };
  /** Of each draft layer's entropy (and its difference to the target's) alone, and the sign that was learned. */
  layers: { layer: number; auc: number; entropy_weight: number; mean: number; std: number }[];
  /** Draft number, position and last statistic, no entropy. */
  auc_without_entropy: number;
  /** Those and the entropies of the best layer. */
  auc_with_entropy: number;
  layer: number;
  /** False: the entropies were dropped. */
  usable: boolean;
}

export interface FittedGate {
  report: GateReport;
  /** Null: the entropies do not help. Weights in the order of the engine's gate features. */
  logistic: { layer: number; weights: number[] } | null;
  /** The paper's rule, with this draft's statistics. */
  paper: EntropyGate;
}

/** Features in the engine's order (native/speculation/entropy_gate.h), without the leading 1. */
export function gateFeatures(draft: JudgedDraft, layer: number, numTokens: number): number[] {
  const entropy = draft.entropies[layer]!;
  return [
    entropy,
    Number.isNaN(draft.targetEntropy) ? 0 : entropy - draft.targetEntropy,
    draft.draft,
    draft.token / numTokens,
    Math.log(Math.max(LEAST_STATISTIC, draft.lastStatistic)),
  ];
}

/** `pictures`: the judged drafts of each, drawn without a gate. A picture lies in one fold: its drafts resemble each other. */
export function fitGate(pictures: readonly (readonly JudgedDraft[])[], numTokens: number): FittedGate {
  const drafts = pictures.flat();
  const folds = pictures.flatMap((picture, i) => picture.map(() => i % FOLDS));
  const labels = drafts.map(({ accepted }) => accepted);
  const layerCount = drafts[0]?.entropies.length ?? 0;
  if (layerCount === 0) throw new Error('no judged draft has an entropy');
  const layers = Array.from({ length: layerCount }, (_, layer) => {
    const rows = drafts.map((draft) => gateFeatures(draft, layer, numTokens).slice(0, 2));
    const entropies = rows.map(([entropy]) => entropy!);
    const average = mean(entropies);
    return {
      layer,
      auc: unseenAuc(rows, labels, folds),
      entropy_weight: fitLogistic(rows.map(([entropy]) => [entropy!]), labels).weights[1]!,
      mean: average,
      std: Math.sqrt(mean(entropies.map((entropy) => (entropy - average) ** 2))),
    };
  });
  const best = layers.reduce((a, b) => (b.auc > a.auc ? b : a));
  const all = drafts.map((draft) => gateFeatures(draft, best.layer, numTokens));
  const usable = best.auc >= LEAST_AUC;
  return {
    report: {
      drafts: drafts.length,
      acceptance: mean(labels.map(Number)),
      statistic: spreadOf(drafts.map(({ statistic }) => statistic)),
      layers,
      auc_without_entropy: unseenAuc(all.map((row) => row.slice(2)), labels, folds),
      auc_with_entropy: unseenAuc(all, labels, folds),
      layer: best.layer,
      usable,
    },
    logistic: usable ? { layer: best.layer, weights: [...fitLogistic(all, labels).weights] } : null,
    paper: { kind: 'paper', layer: penultimate(layerCount), ...pickStatistics(layers[penultimate(layerCount)]!) },
  };
}

function spreadOf(values: readonly number[]): { median: number; p90: number } {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p90: quantile(sorted, 0.9) };
}

/** The layer that the entropy loss is put on in training. */
function penultimate(layers: number): number {
  return Math.max(0, layers - 2);
}

function pickStatistics({ mean: average, std }: { mean: number; std: number }): { mean: number; std: number } {
  return { mean: average, std };
}

/** Fewer accepted (or rejected) drafts than that tell nothing about the others. */
const LEAST_OF_A_CLASS = 20;

/** AUC of out-of-fold predictions. 0.5 where one of the classes is as good as missing. */
function unseenAuc(rows: readonly (readonly number[])[], labels: readonly boolean[], folds: readonly number[]): number {
  const accepted = labels.filter(Boolean).length;
  if (Math.min(accepted, labels.length - accepted) < LEAST_OF_A_CLASS) return 0.5;
  const scores = new Array<number>(rows.length).fill(0);
  for (let fold = 0; fold < FOLDS; fold += 1) {
    const seen = rows.map((_, i) => i).filter((i) => folds[i] !== fold);
    if (seen.length === 0 || seen.length === rows.length) continue;
    const model = fitLogistic(seen.map((i) => rows[i]!), seen.map((i) => labels[i]!));
    for (const [i, row] of rows.entries()) if (folds[i] === fold) scores[i] = probability(model, row);
  }
  return areaUnderCurve(scores, labels);
}

/**
 * Where the gate stops: a draft must be accepted often enough to pay for itself. `tokensPerCost` is what the request earns
 * otherwise, in tokens per vanilla token's time (B.3.3 of the method: one more draft while its chance exceeds cost times rate).
 */
export function breakEven(costs: { draft: number; verify: number }, tokensPerCost: number): number {
  return Math.min(0.95, (costs.draft + costs.verify) * tokensPerCost);
}
