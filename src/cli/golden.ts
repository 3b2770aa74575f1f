import { parseArgs } from 'node:util';
import { wrapEngine } from '../engine/engine.js';
import { loadNativeModule } from '../engine/native.js';
import type { BackendName, ComputeDtype } from '../engine/native-types.js';
import { describeError } from '../errors.js';
import { readManifest } from '../model/manifest.js';
import { KV_BLOCK_TOKENS } from '../worker/capacity.js';
import { peakBlocks } from '../worker/scheduler/sequence.js';
import { compare } from './golden/compare.js';
import { fixture, GoldenUsageError, readGoldenFolder, type GoldenFolder } from './golden/manifest.js';
import { runCase, type GoldenRun } from './golden/run-case.js';

const USAGE = 'Usage: npm run golden -- DIR [--backend reference|cpu] [--dtype float32|bfloat16] [--threads N]';

interface Options {
  directory: string;
  backend: BackendName;
  dtype: ComputeDtype;
  threads: number;
}

/** Runs every case of a folder's manifest through the addon; exit 0: all within tolerance, 1: not, 2: cannot run. */
async function main(options: Options): Promise<number> {
  const folder = readGoldenFolder(options.directory);
  const manifest = readManifest(options.directory);
  const { Engine } = loadNativeModule();
  const engine = wrapEngine(new Engine({ backend: options.backend, dtype: options.dtype, threads: options.threads }));
  const maxStepTokens = 512;
  const model = await engine.load(options.directory, { kvBlocks: blocksNeeded(folder), maxStepTokens });
  console.log(`${options.directory}: ${engine.info.backend}, ${engine.info.dtype}, ${engine.info.isa}`);
  let failures = 0;
  for (const goldenCase of folder.cases) failures += await judge({ folder, manifest, model, maxStepTokens }, goldenCase);
  engine.close();
  console.log(failures === 0 ? `OK: ${folder.cases.length} cases` : `FAIL: ${failures} tensors beyond tolerance`);
  return failures === 0 ? 0 : 1;
}

/** Prints one line per expected tensor; returns how many are beyond tolerance. */
async function judge(run: GoldenRun, goldenCase: GoldenRun['folder']['cases'][number]): Promise<number> {
  const outputs = await runCase(run, goldenCase);
  if (outputs === null) throw new GoldenUsageError(`case "${goldenCase.name}": kind ${goldenCase.kind} is not supported`);
  let failures = 0;
  for (const [i, { tensor, tolerance }] of goldenCase.expect.entries()) {
    const { error, passed } = compare(outputs[i] ?? new Float32Array(), fixture(run.folder, tensor), tolerance);
    if (!passed) failures += 1;
    const verdict = passed ? '' : ' FAIL';
    console.log(`${goldenCase.name.padEnd(40)} ${tensor.padEnd(30)} ${error.toExponential(1)} of ${tolerance.toExponential(0)}${verdict}`);
  }
  return failures;
}

/** Enough for the largest case alone. */
function blocksNeeded(folder: GoldenFolder): number {
  const needs = folder.cases.map(({ rows, params }) => {
    const lengths = rows.map((name) => fixture(folder, name).data.length);
    return peakBlocks(lengths, params.grid[0] * params.grid[1], KV_BLOCK_TOKENS);
  });
  return Math.max(1, ...needs);
}

function readOptions(argv: string[]): Options {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      backend: { type: 'string', default: 'cpu' },
      dtype: { type: 'string', default: 'float32' },
      threads: { type: 'string', default: '0' },
    },
  });
  const [directory, ...more] = positionals;
  if (directory === undefined || more.length > 0) throw new GoldenUsageError('expected one folder');
  const backend = oneOf<BackendName>('--backend', values.backend, ['reference', 'cpu']);
  const dtype = oneOf<ComputeDtype>('--dtype', values.dtype, ['float32', 'bfloat16']);
  return { directory, backend, dtype, threads: Number(values.threads) };
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw new GoldenUsageError(`${name} must be one of ${allowed.join(', ')}, received ${value}`);
  return found;
}

try {
  process.exitCode = await main(readOptions(process.argv.slice(2)));
} catch (error) {
  const usage = error instanceof GoldenUsageError || (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'));
  console.error(`golden: ${describeError(error)}`);
  if (usage) console.error(USAGE);
  process.exitCode = usage ? 2 : 1;
}
