import type { Engine } from '../../engine/engine.js';
import { readNextStepManifest } from '../../model/manifest.js';
import { loadTokenizer } from '../../model/tokenizer.js';
import { KV_BLOCK_TOKENS } from '../../worker/capacity.js';
import { peakBlocks } from '../../worker/scheduler/course.js';
import { compare } from './compare.js';
import { judgeOutputs, type Report } from './judge.js';
import { fixture, type GoldenCase, type GoldenFolder } from './manifest.js';
import { runCase, runFromOrigin, type GoldenRun } from './run-case.js';
import { runTransDiffFolder } from './run-transdiff.js';

const MAX_STEP_TOKENS = 512;

/** Loads the folder's model and runs its cases in order, reporting every expected tensor. */
export async function runGoldenFolder(engine: Engine, folder: GoldenFolder, report: Report): Promise<void> {
  if (folder.family === 'transdiff') return runTransDiffFolder(engine, folder, report);
  const manifest = readNextStepManifest(folder.model);
  const tokenizer = folder.cases.some(({ origin }) => origin !== null) ? loadTokenizer(manifest) : null;
  const model = await engine.load(folder.model, {
    kvBlocks: blocksNeeded(folder),
    maxStepTokens: MAX_STEP_TOKENS,
    ...(folder.accelerator === null ? {} : { accelerator: folder.accelerator }),
  });
  try {
    const run: GoldenRun = { folder, manifest, tokenizer, model, maxStepTokens: MAX_STEP_TOKENS };
    for (const goldenCase of folder.cases) {
      judgeOutputs(folder, goldenCase, await runCase(run, goldenCase), report);
      await judgeOrigin(run, goldenCase, report);
    }
  } finally {
    await model.unload();
  }
}

async function judgeOrigin(run: GoldenRun, goldenCase: GoldenCase, report: Report): Promise<void> {
  const own = await runFromOrigin(run, goldenCase);
  const tokens = goldenCase.expect[0];
  if (own === null || tokens === undefined) return;
  const name = `${goldenCase.name}, own`;
  for (const [i, tensor] of goldenCase.rows.entries()) {
    const ids = Float32Array.from(own.rows[i] ?? []);
    report({ name: `${name} tokenizer`, tensor, tolerance: 0, ...compare(ids, fixture(run.folder, tensor), 0) });
  }
  const { tensor, tolerance } = tokens;
  report({ name: `${name} noise`, tensor, tolerance, ...compare(own.tokens, fixture(run.folder, tensor), tolerance) });
}

/** Enough for the largest case alone. */
function blocksNeeded(folder: GoldenFolder): number {
  const needs = folder.cases.map(({ rows, params }) => {
    const lengths = rows.map((name) => fixture(folder, name).data.length);
    return peakBlocks(lengths, params.grid[0] * params.grid[1], KV_BLOCK_TOKENS);
  });
  return Math.max(1, ...needs);
}
