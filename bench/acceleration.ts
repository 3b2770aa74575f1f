import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { wrapEngine } from '../src/engine/engine.js';
import { ADDON_PATH, loadNativeModule, PACKAGE_ROOT } from '../src/engine/native.js';
import { ACCELERATOR_FOLDER, readCalibration } from '../src/model/accelerator.js';
import { readQualityPack } from '../src/quality/pack.js';
import { openStudio } from '../src/calibration/open-studio.js';
import { readManifest } from '../src/model/manifest.js';
import { MAX_STEP_TOKENS } from './draw.js';
import { cachesReport, checkSameBytes, openUncached, withoutCaches } from './acceleration/caches.js';
import { measureQuality } from './acceleration/quality.js';
import { buildReport, printReport, saveReport } from './acceleration/report.js';
import { measureSpeed } from './acceleration/speed.js';
import { calibratedWays, columnsOf, fewerTimesteps, manyTimesteps, VANILLA, type BenchWay } from './acceleration/ways.js';
import { describeMachine } from './report.js';
import { runScript } from './run-script.js';

const USAGE = `Usage: npm run bench:acceleration -- [flags]
  --quick          about a minute: the four columns only, fewer rounds, few pictures for quality
  --json           one JSON object on standard output, nothing else; saves nothing
  --rounds N       of times (default 9; quick 5)
  --pictures N     for FD (default 2000; quick 192)
  --family NAME    nextstep (default) or transdiff: whose bundled model
  --model DIR      model folder instead
  --threads N      compute threads (default 0: one per physical core)
  --no-quality     times only
  --no-save        print only; leave bench/results/ and docs/ alone
Latency of one picture at a time, pictures per second with 16 at once, and quality, of every way of drawing the same model:
off (its own sampler at its default timesteps), few steps, exact and relaxed speculation, and both. Of transdiff there is no exact; off is also
drawn with 100 timesteps (not with --quick), and both without the engine's caches, as the model's reference computes.`;

/** At once where throughput is measured, and where only the pictures count. */
const BATCH = 16;

const BUNDLED: ReadonlyMap<string, string> = new Map([
  ['nextstep', 'nextstep-emoji64'],
  ['transdiff', 'transdiff-emoji64'],
]);

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
      family: { type: 'string', default: 'nextstep' },
      model: { type: 'string' },
      threads: { type: 'string', default: '0' },
      'no-quality': { type: 'boolean', default: false },
      'no-save': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  const { quick, json, family } = values;
  const bundled = BUNDLED.get(family);
  if (bundled === undefined) throw new Error(`--family ${family}: there are ${[...BUNDLED.keys()].join(', ')}`);
  return {
    quick,
    json,
    rounds: Number(values.rounds ?? (quick ? 5 : 9)),
    pictures: Number(values.pictures ?? (quick ? 192 : 2000)),
    model: values.model ?? join(PACKAGE_ROOT, 'models', bundled),
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
  const manifest = readManifest(options.model);
  const calibration = readCalibration(manifest.directory, manifest.sampling);
  if (calibration === null) throw new Error(`${options.model} has no accelerator; see train/README.md, then "npm run calibrate"`);
  const pack = await readQualityPack(manifest.directory);
  const { Engine } = loadNativeModule(process.env['ARDIFF_ADDON'] ?? ADDON_PATH);
  const engine = wrapEngine(new Engine({ backend: 'cpu', dtype: 'auto', threads: options.threads }));
  try {
    const opened = await openStudio(engine, manifest.directory, join(manifest.directory, ACCELERATOR_FOLDER), BATCH);
    const isOfPasses = manifest.family === 'transdiff';
    const studio = isOfPasses ? opened : { ...opened, maxStepTokens: MAX_STEP_TOKENS };
    const stored = calibratedWays(calibration);
    const columns = columnsOf(stored);
    const chosen = [...new Set(Object.values(columns).filter((way) => way !== undefined))];
    // The whole picture: all modes, and vanilla with fewer timesteps, which is what anybody could do without any of this.
    const ways: BenchWay[] = options.quick ? chosen : [...stored.values(), ...fewerTimesteps(manifest.sampling.timesteps), ...(isOfPasses ? [manyTimesteps()] : [])];
    const log = (line: string): void => {
      if (!options.json) console.error(`bench: ${line}`);
    };
    const prompts = pack.fdPrompts;
    const pairs: [cached: BenchWay, uncached: BenchWay][] = [];
    if (isOfPasses) {
      const uncached = await openUncached(engine, studio);
      await checkSameBytes(studio, uncached, prompts.slice(0, 4));
      const reference = options.quick ? [VANILLA] : [VANILLA, manyTimesteps()];
      pairs.push(...reference.map((way): [BenchWay, BenchWay] => [way, withoutCaches(way, uncached)]));
    }
    log('speed');
    const timed = [...ways, ...pairs.map(([, without]) => without)];
    const speed = await measureSpeed(studio, [VANILLA, ...timed], {
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
          fine: isOfPasses && !options.quick ? manyTimesteps() : null,
        }, log)
      : null;
    const report = buildReport({ machine: describeMachine(engine.info), engine: engine.info, calibration, columns, ways: timed, speed, quality, caches: cachesReport(pairs, speed), batch: BATCH });
    if (options.json) console.log(JSON.stringify(report));
    else printReport(report);
    if (options.save) for (const path of saveReport(report, isOfPasses ? '-transdiff' : '')) console.log(`wrote ${relative(PACKAGE_ROOT, path)}`);
  } finally {
    engine.close();
  }
}

await runScript(main);
