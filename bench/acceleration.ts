import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { wrapEngine } from '../src/engine/engine.js';
import { ADDON_PATH, loadNativeModule, PACKAGE_ROOT } from '../src/engine/native.js';
import { ACCELERATOR_FOLDER, readCalibration } from '../src/model/accelerator.js';
import { readQualityPack } from '../src/quality/pack.js';
import { openUnaccelerated, type Studio } from '../src/calibration/studio.js';
import { kvBlocksFor } from '../src/worker/capacity.js';
import { MAX_STEP_TOKENS } from './draw.js';
import { measureQuality } from './acceleration/quality.js';
import { buildReport, printReport, saveReport } from './acceleration/report.js';
import { measureSpeed } from './acceleration/speed.js';
import { calibratedWays, columnsOf, fewerTimesteps, VANILLA, type BenchWay } from './acceleration/ways.js';
import { describeMachine } from './report.js';

const USAGE = `Usage: npm run bench:acceleration -- [flags]
  --quick          under a minute: the four columns only, fewer rounds, few pictures for quality
  --json           one JSON object on standard output, nothing else; saves nothing
  --rounds N       of times (default 9; quick 5)
  --pictures N     for FD (default 2000; quick 192)
  --model DIR      model folder (default: the bundled demo model)
  --threads N      compute threads (default 0: one per physical core)
  --no-quality     times only
  --no-save        print only; leave bench/results/ and docs/ alone
Latency of one picture at a time, pictures per second with 16 at once, and quality, of every way of drawing the same model:
off (its own sampler at its default timesteps), few steps, exact and relaxed speculation, and both.`;

/** At once where throughput is measured, and where only the pictures count. */
const BATCH = 16;

interface Options {
  quick: boolean;
  json: boolean;
  rounds: number;
  pictures: number;
  model: string;
  threads: number;
  quality: boolean;
  save: boolean;
}

function readOptions(): Options | null {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      pictures: { type: 'string' },
      model: { type: 'string', default: join(PACKAGE_ROOT, 'models', 'nextstep-emoji64') },
      threads: { type: 'string', default: '0' },
      'no-quality': { type: 'boolean', default: false },
      'no-save': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  const { quick, json } = values;
  return {
    quick,
    json,
    rounds: Number(values.rounds ?? (quick ? 5 : 9)),
    pictures: Number(values.pictures ?? (quick ? 192 : 2000)),
    model: values.model,
    threads: Number(values.threads),
    quality: !values['no-quality'],
    save: !values['no-save'] && !json && !quick,
  };
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options === null) {
    console.log(USAGE);
    return;
  }
  const served = openUnaccelerated(options.model);
  const { manifest } = served;
  const calibration = readCalibration(manifest.directory, manifest.sampling);
  if (calibration === null) throw new Error(`${options.model} has no accelerator; see train/README.md, then "npm run calibrate"`);
  const pack = await readQualityPack(manifest.directory);
  const { Engine } = loadNativeModule(process.env['ARDIFF_ADDON'] ?? ADDON_PATH);
  const engine = wrapEngine(new Engine({ backend: 'cpu', dtype: 'auto', threads: options.threads }));
  try {
    const model = await engine.load(manifest.directory, {
      kvBlocks: kvBlocksFor(manifest, 2 * BATCH),
      maxStepTokens: MAX_STEP_TOKENS,
      accelerator: join(manifest.directory, ACCELERATOR_FOLDER),
    });
    const studio: Studio = { served, model, maxStepTokens: MAX_STEP_TOKENS, batch: BATCH };
    const stored = calibratedWays(calibration);
    const columns = columnsOf(stored);
    const chosen = [...new Set(Object.values(columns).filter((way) => way !== undefined))];
    // The whole picture: all modes, and vanilla with fewer timesteps, which is what anybody could do without any of this.
    const ways: BenchWay[] = options.quick ? chosen : [...stored.values(), ...fewerTimesteps(manifest.sampling.timesteps)];
    const log = (line: string): void => {
      if (!options.json) console.error(`bench: ${line}`);
    };
    log('speed');
    const prompts = pack.fdPrompts;
    const speed = await measureSpeed(studio, [VANILLA, ...ways], {
      rounds: options.rounds,
      alone: prompts.slice(0, options.quick ? 4 : 8),
      together: prompts.slice(0, BATCH),
    });
    const judged = options.quick ? [columns.both ?? columns.few_step].filter((way) => way !== undefined) : ways;
    const quality = options.quality
      ? await measureQuality(studio, pack, judged, {
          size: { fdPictures: options.pictures, concepts: options.quick ? 64 : 200, seedsPerConcept: options.quick ? 2 : 4 },
          resamples: options.quick ? 50 : 300,
          spread: !options.quick,
        }, log)
      : null;
    const report = buildReport({ machine: describeMachine(engine.info), engine: engine.info, calibration, columns, ways, speed, quality, batch: BATCH });
    if (options.json) console.log(JSON.stringify(report));
    else printReport(report);
    if (options.save) for (const path of saveReport(report)) console.log(`wrote ${relative(PACKAGE_ROOT, path)}`);
  } finally {
    engine.close();
  }
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
