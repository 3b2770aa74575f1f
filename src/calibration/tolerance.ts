import { quantile } from '../quality/frechet.js';
import type { DrawnPicture } from './drawn.js';
import { judgedDrafts, type JudgedDraft } from './trace.js';
import type { Prompt } from '../quality/pack.js';
import type { Acceleration } from '../model/accelerator.js';
import { fewStepWay, UNMEASURED, wayOf, type SpeculationSettings } from './settings.js';
import { drawAll, type Studio } from './studio.js';

/** Of the first drafts' distances, strict to loose. */
const QUANTILES = [0.25, 0.5, 0.7, 0.85, 0.95, 0.99];
/** Beyond the last quantile, in its multiples: later drafts of a round lie farther off than the first. */
const MULTIPLES = [1.5, 2, 3];

export function toleranceCandidates(statistics: readonly number[], count: number): number[] {
  if (statistics.length === 0) throw new Error('no draft was judged');
  const sorted = [...statistics].sort((a, b) => a - b);
  const largest = quantile(sorted, QUANTILES.at(-1)!);
  const all = [...QUANTILES.map((q) => quantile(sorted, q)), ...MULTIPLES.map((m) => m * largest)];
  // Fewer candidates: spread over the same range, the loosest always among them.
  return Array.from({ length: Math.min(count, all.length) }, (_, i) => all[all.length - 1 - Math.round((i * (all.length - 1)) / Math.max(1, count - 1))]!).reverse();
}

/** Some mode without drafts draws the same where all are refused. Of a model of passes not with few steps: its references are then the model's own, its picture is not. */
export function hasUndraftedTwin({ fewStep }: Acceleration, { draftJumps }: Pick<SpeculationSettings, 'draftJumps'>): boolean {
  return draftJumps === undefined || fewStep === 0;
}

/**
 * Draws with a tolerance of 0. Nothing is accepted but equal tokens, so the pictures must be those without speculation, byte for
 * byte; a relaxed mode that fails this is broken and is not calibrated. What comes back are the distances of drafts that follow
 * a true token.
 */
export async function strictDrafts(
  studio: Studio,
  combination: Acceleration,
  prompts: readonly Prompt[],
  draftLayers: number,
  jumps: Pick<SpeculationSettings, 'draftJumps'> = {},
): Promise<JudgedDraft[]> {
  const { fewStep } = combination;
  const plain: Uint8Array[] = [];
  const isComparable = hasUndraftedTwin(combination, jumps);
  if (isComparable) await drawAll(studio, prompts, fewStepWay(fewStep), ({ image }) => void plain.push(image.rgb));
  const drafts: JudgedDraft[] = [];
  const strict = wayOf({ mode: 'relaxed', fewStep }, { drafting: 'sequential', maxDraftTokens: 1, tolerance: 0, ...UNMEASURED, ...jumps }, { adaptive: false, trace: true });
  await drawAll(studio, prompts, strict, (picture: DrawnPicture, index) => {
    if (isComparable && !Buffer.from(picture.image.rgb).equals(plain[index]!)) throw new Error(`relaxed with tolerance 0 drew another picture of ${JSON.stringify(prompts[index])}`);
    drafts.push(...judgedDrafts(picture.decode, draftLayers));
  });
  return drafts;
}

