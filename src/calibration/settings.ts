import type { FewStep, SequenceSpec, SpeculationSpec } from '../engine/native-types.js';
import type { Acceleration, CalibratedSpeculation } from '../model/accelerator.js';
import { specAs } from './combination.js';
import type { Way } from './studio.js';

/** What is stored of a speculating mode: all but what only calibration and tests ask for. */
export type SpeculationSettings = Omit<SpeculationSpec, 'mode' | 'adaptive' | 'trace'>;

export interface WayOptions {
  /** False: every round drafts as many as it may. */
  adaptive?: boolean;
  trace?: boolean;
}

/** How the combination draws with these settings; without them, with the few-step head alone or not accelerated at all. */
export function wayOf({ mode, fewStep }: Acceleration, settings: SpeculationSettings | null, { adaptive = true, trace = false }: WayOptions = {}): Way {
  if (mode === 'off' || settings === null) return fewStepWay(fewStep);
  return (vanilla: SequenceSpec) => specAs(vanilla, fewStep, { mode, ...settings, adaptive, trace });
}

export function fewStepWay(fewStep: FewStep): Way {
  return (vanilla) => specAs(vanilla, fewStep);
}

/** Before anything is known: drafts are free and always accepted, so that the adaptive rule would always draft. */
export const UNMEASURED: Pick<SpeculationSettings, 'costs' | 'acceptance' | 'gate'> = {
  costs: { plain: 1, round: 0.5, draft: 0, verify: 0 },
  acceptance: 1,
  gate: { kind: 'off' },
};

/** What accelerator.json says of a mode, as the engine takes it. */
export function settingsOf(stored: CalibratedSpeculation): SpeculationSettings {
  const { drafting, max_draft_tokens: maxDraftTokens, tolerance, acceptance, gate, costs, draft_jumps: draftJumps } = stored;
  return { drafting, maxDraftTokens, tolerance, acceptance, gate, costs, ...(draftJumps === undefined ? {} : { draftJumps }) };
}
