import { acceptanceOf } from '../../src/calibration/costs.js';
import { breakEven, type FittedGate } from '../../src/calibration/gate.js';
import type { SpeculationSettings } from '../../src/calibration/settings.js';
import { predictBest } from '../../src/calibration/speed-model.js';
import type { EntropyGate, RoundRecord } from '../../src/engine/native-types.js';

const GATES = ['off', 'paper', 'calibrated'] as const;
export type GateName = (typeof GATES)[number];

export function isGateName(name: string): name is GateName {
  return GATES.some((known) => known === name);
}

/**
 * The rule behind a name, for one draft model: `fitted` and `rounds` are of pictures drawn with it and without a gate.
 * `calibrated` is the fitted rule whether calibration would take it or not, so that the table can say what it would have given.
 */
export function gateOf(name: GateName, fitted: FittedGate, rounds: readonly RoundRecord[], { costs, maxDraftTokens }: SpeculationSettings): EntropyGate | null {
  switch (name) {
    case 'off':
      return { kind: 'off' };
    case 'paper':
      return fitted.paper;
    case 'calibrated': {
      const { rate } = predictBest(costs, acceptanceOf(rounds), maxDraftTokens);
      return fitted.logistic === null ? null : { kind: 'logistic', ...fitted.logistic, threshold: breakEven(costs, rate) };
    }
  }
}
