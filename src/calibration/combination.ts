import type { FewStep, SequenceSpec, SpeculationSpec } from '../engine/native-types.js';
import { FEW_STEPS, type Acceleration, type ModeKey } from '../model/accelerator.js';
import type { SamplingDefaults } from '../model/sampling.js';

export interface Abilities {
  draft: boolean;
  /** The draft model has a head that draws by the model's own sampler. */
  draftHead: boolean;
  fewStep: boolean;
  /** Of the model's own sampler. A step without noise is one point: two models never agree on it. */
  noiseInEveryStep: boolean;
  /** Of a model that draws in so many: references, if it has any, are drafted by the few-step decoder. Absent: token by token. */
  passes?: number;
}

/** What a folder's accelerator can be asked for. Exact draws by the model's own sampler, so it has no jumps. */
export function combinationsOf(has: Abilities): Acceleration[] {
  const list: Acceleration[] = [];
  if (has.fewStep) list.push(...FEW_STEPS.map((fewStep) => ({ mode: 'off' as const, fewStep })));
  if (has.passes !== undefined) {
    if (has.fewStep && has.passes > 1) list.push(...([0, ...FEW_STEPS] as const).map((fewStep) => ({ mode: 'relaxed' as const, fewStep })));
    return list;
  }
  if (has.draft && has.draftHead && has.noiseInEveryStep) list.push({ mode: 'exact', fewStep: 0 }, { mode: 'relaxed', fewStep: 0 });
  if (has.draft && has.fewStep) list.push(...FEW_STEPS.map((fewStep) => ({ mode: 'relaxed' as const, fewStep })));
  return list;
}

/** What block verification needs: a normal law in every step. C-cps has none in its last one, C-sde none at level 0. */
export function hasNoiseInEveryStep({ sampler, samplerLevel = 0 }: Pick<SamplingDefaults, 'sampler'> & { samplerLevel?: number }): boolean {
  return sampler === 'B' || (sampler === 'C-sde' && samplerLevel > 0);
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

/** The other way round of `modeKeyOf`. */
export function combinationOf(key: ModeKey): Acceleration {
  const steps = /few_step:([124])$/.exec(key)?.[1];
  const mode = key === 'exact' ? 'exact' : key.startsWith('relaxed') ? 'relaxed' : 'off';
  return { mode, fewStep: steps === undefined ? 0 : (Number(steps) as 1 | 2 | 4) };
}
