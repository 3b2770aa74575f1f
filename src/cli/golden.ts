import { parseArgs } from 'node:util';
import { parseBackendName } from '../engine/backend-name.js';
import { wrapEngine } from '../engine/engine.js';
import { loadNativeModule } from '../engine/native.js';
import type { BackendName, ComputeDtype } from '../engine/native-types.js';
import { describeError } from '../errors.js';
import { GoldenUsageError, readGoldenFolder } from './golden/manifest.js';
import { runGoldenFolder } from './golden/run-folder.js';

const USAGE = 'Usage: npm run golden -- DIR [--backend reference|cpu|cuda[:N]] [--dtype float32|bfloat16] [--threads N]';

interface Options {
  directory: string;
  backend: BackendName;
  dtype: ComputeDtype;
  threads: number;
}

/** Runs every case of a folder's manifest through the addon; exit 0: all within tolerance, 1: not, 2: cannot run. */
async function main({ directory, backend, dtype, threads }: Options): Promise<number> {
  // Read first: a folder of another family should say so, and not that its weights are missing.
  const folder = readGoldenFolder(directory);
  const { Engine } = loadNativeModule();
  const engine = wrapEngine(new Engine({ backend, dtype, threads }));
  console.log(`${directory}: ${engine.info.backend}, ${engine.info.dtype}, ${engine.info.isa}`);
  let failures = 0;
  await runGoldenFolder(engine, folder, ({ name, tensor, error, tolerance, passed }) => {
    if (!passed) failures += 1;
    const figures = `${error.toExponential(1)} of ${tolerance.toExponential(0)}`;
    console.log(`${name.padEnd(54)} ${tensor.padEnd(30)} ${figures}${passed ? '' : ' FAIL'}`);
  });
  engine.close();
  console.log(failures === 0 ? `OK: ${folder.cases.length} cases` : `FAIL: ${failures} tensors beyond tolerance`);
  return failures === 0 ? 0 : 1;
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
  const backend = backendOf(values.backend);
  const dtype = oneOf<ComputeDtype>('--dtype', values.dtype, ['float32', 'bfloat16']);
  return { directory, backend, dtype, threads: Number(values.threads) };
}

function backendOf(text: string): BackendName {
  try {
    return parseBackendName(text);
  } catch (error) {
    throw new GoldenUsageError(`--backend: ${describeError(error)}, received ${text}`);
  }
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
