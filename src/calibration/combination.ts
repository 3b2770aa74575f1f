import type { FewStep, SequenceSpec, SpeculationSpec } from '../engine/native-types.js';
import { FEW_STEPS, type Acceleration } from '../model/accelerator.js';

/** What a folder's accelerator can be asked for. Exact draws by the model's own sampler, so it has no jumps. */
export function combinationsOf(has: { draft: boolean; fewStep: boolean; noiseInEveryStep: boolean }): Acceleration[] {
  const list: Acceleration[] = [];
  if (has.fewStep) list.push(...FEW_STEPS.map((fewStep) => ({ mode: 'off' as const, fewStep })));
  // A step without noise is one point: two models never agree on it.
  if (has.draft && has.noiseInEveryStep) list.push({ mode: 'exact', fewStep: 0 }, { mode: 'relaxed', fewStep: 0 });
  if (has.draft && has.fewStep) list.push(...FEW_STEPS.map((fewStep) => ({ mode: 'relaxed' as const, fewStep })));
  return list;
}

/** A vanilla spec drawn another way. Guidance is distilled into the few-step head, so it has the caption's row alone. */
export function specAs(vanilla: SequenceSpec, fewStep: FewStep, speculation?: SpeculationSpec): SequenceSpec {
  return {
    ...vanilla,
    promptRows: fewStep === 0 ? vanilla.promptRows : vanilla.promptRows.slice(0, 1),
    fewStep,
    ...(speculation === undefined ? {} : { speculation }),
  };
}
