import { compare, type Difference } from './compare.js';
import { fixture, GoldenUsageError, type GoldenCase, type GoldenFolder } from './manifest.js';

/** One expected tensor of one case. */
export interface GoldenOutcome extends Difference {
  name: string;
  tensor: string;
  tolerance: number;
}

export type Report = (outcome: GoldenOutcome) => void;

/** What the engine gave for a case, in the order of its `expect`; null where the family has no such kind. */
export function judgeOutputs(folder: GoldenFolder, goldenCase: GoldenCase, outputs: Float32Array[] | null, report: Report): void {
  if (outputs === null) throw new GoldenUsageError(`case "${goldenCase.name}": kind ${goldenCase.kind} is not supported`);
  for (const [i, { tensor, tolerance }] of goldenCase.expect.entries()) {
    const difference = compare(outputs[i] ?? new Float32Array(), fixture(folder, tensor), tolerance);
    report({ name: goldenCase.name, tensor, tolerance, ...difference });
  }
}
