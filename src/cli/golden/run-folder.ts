import type { Engine } from '../../engine/engine.js';
import { readManifest } from '../../model/manifest.js';
import { KV_BLOCK_TOKENS } from '../../worker/capacity.js';
import { peakBlocks } from '../../worker/scheduler/sequence.js';
import { compare, type Difference } from './compare.js';
import { fixture, GoldenUsageError, type GoldenFolder } from './manifest.js';
import { runCase } from './run-case.js';

/** One expected tensor of one case. */
export interface GoldenOutcome extends Difference {
  name: string;
  tensor: string;
  tolerance: number;
}

const MAX_STEP_TOKENS = 512;

/** Loads the folder's model and runs its cases in order, reporting every expected tensor. */
export async function runGoldenFolder(engine: Engine, folder: GoldenFolder, report: (outcome: GoldenOutcome) => void): Promise<void> {
  const manifest = readManifest(folder.directory);
  const model = await engine.load(folder.directory, { kvBlocks: blocksNeeded(folder), maxStepTokens: MAX_STEP_TOKENS });
  try {
    for (const goldenCase of folder.cases) {
      const outputs = await runCase({ folder, manifest, model, maxStepTokens: MAX_STEP_TOKENS }, goldenCase);
      if (outputs === null) throw new GoldenUsageError(`case "${goldenCase.name}": kind ${goldenCase.kind} is not supported`);
      for (const [i, { tensor, tolerance }] of goldenCase.expect.entries()) {
        const difference = compare(outputs[i] ?? new Float32Array(), fixture(folder, tensor), tolerance);
        report({ name: goldenCase.name, tensor, tolerance, ...difference });
      }
    }
  } finally {
    await model.unload();
  }
}

/** Enough for the largest case alone. */
function blocksNeeded(folder: GoldenFolder): number {
  const needs = folder.cases.map(({ rows, params }) => {
    const lengths = rows.map((name) => fixture(folder, name).data.length);
    return peakBlocks(lengths, params.grid[0] * params.grid[1], KV_BLOCK_TOKENS);
  });
  return Math.max(1, ...needs);
}
