import { existsSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { calibrate as runCalibration, type CalibrationOptions } from '../../calibration/calibrate.js';
import { combinationsOf, hasNoiseInEveryStep } from '../../calibration/combination.js';
import { calibrationFile, DRAFT_FILE, FEW_STEP_FILE, readCalibrationFile, saveCalibration, withKeptModes } from '../../calibration/file.js';
import { openStudio } from '../../calibration/open-studio.js';
import { calibrationTable } from '../../calibration/table.js';
import { wrapEngine } from '../../engine/engine.js';
import { ADDON_PATH, loadNativeModule, PACKAGE_ROOT } from '../../engine/native.js';
import { ACCELERATOR_FOLDER, MODE_KEYS, type ModeKey } from '../../model/accelerator.js';

import { readQualityPack } from '../../quality/pack.js';
import { CommandError, type Command, type Terminal } from '../command.js';
import { choice, describeFlags, integer, onOff, parseFlags, text, UsageError, type FlagValues } from '../flags.js';

const FLAGS = {
  accelerator: text('folder with draft and few-step head; default: MODEL/accelerator', { placeholder: 'DIR' }),
  quick: onOff('a first look in a few minutes: fewer pictures, fewer tolerances. Too little to trust'),
  modes: text(`only these, separated by commas: ${MODE_KEYS.join(', ')}. What the file says of others stays, if it was measured alike`, { placeholder: 'LIST' }),
  gate: choice('which entropy gate to use; auto: the one that is fastest by the clock', ['auto', 'off', 'paper', 'logistic']),
  explore: onOff('try looser tolerances also after one that did not pass; they are recorded, never chosen'),
  pictures: integer('pictures that FD is measured with (default 2000)', [64, 2000]),
  threads: integer('compute threads; default: one per physical core', [1, 1024]),
  'dry-run': onOff('print the table, leave accelerator.json alone'),
};

const HELP = `Usage: fast-ardiff calibrate [MODEL] [flags]

Measures what the accelerator of a model folder is worth and writes MODEL/accelerator/accelerator.json: costs, acceptance, entropy gate, tolerances, and for
every mode whether its pictures are as good as those without acceleration. The server draws by the fastest mode that passed.
Times are taken in turns, but a busy machine still blurs them.

${describeFlags(FLAGS)}`;

/** 2,000 pictures and 4 seeds of each concept: FD is told to ±0.05, adherence to ±0.01. */
const FULL: CalibrationOptions = {
  guard: { fdPictures: 2000, concepts: 200, seedsPerConcept: 4 },
  timedPictures: 6,
  repetitions: 5,
  tracedPictures: 128,
  tolerances: 6,
  resamples: 300,
  gate: 'auto',
  explore: false,
  only: [],
};

const QUICK: CalibrationOptions = { ...FULL, guard: { fdPictures: 384, concepts: 64, seedsPerConcept: 2 }, timedPictures: 3, repetitions: 3, tracedPictures: 48, tolerances: 3, resamples: 100 };

const BATCH = 16;

export const calibrate: Command = {
  summary: 'measure a model\'s accelerator: costs, tolerances, quality; writes accelerator.json',
  help: HELP,
  run: async (args, terminal) => {
    const { values, positionals } = parseFlags(FLAGS, args);
    if (positionals.length > 1) throw new UsageError(`unexpected ${JSON.stringify(positionals[1])}`);
    const model = resolve(positionals[0] ?? join(PACKAGE_ROOT, 'models', 'nextstep-emoji64'));
    return run(model, values, terminal);
  },
};

async function run(directory: string, values: FlagValues<typeof FLAGS>, terminal: Terminal): Promise<number> {
  const folder = resolve(values.accelerator ?? join(directory, ACCELERATOR_FOLDER));
  if (![DRAFT_FILE, FEW_STEP_FILE].some((file) => existsSync(join(folder, file)))) {
    throw new CommandError(`${folder} has neither ${DRAFT_FILE} nor ${FEW_STEP_FILE}; see train/README.md`);
  }
  const options = optionsOf(values);
  const pack = await readQualityPack(directory);
  const { Engine } = loadNativeModule(terminal.env['ARDIFF_ADDON'] ?? ADDON_PATH);
  const engine = wrapEngine(new Engine({ backend: 'cpu', dtype: 'auto', threads: values.threads ?? 0 }));
  try {
    const studio = await openStudio(engine, directory, folder, BATCH);
    const { served, model } = studio;
    const { accelerator, classes } = model.info;
    const combinations = combinationsOf({
      draft: accelerator.draftLayers > 0,
      draftHead: accelerator.draftHead,
      fewStep: accelerator.fewStep,
      noiseInEveryStep: hasNoiseInEveryStep(served.manifest.sampling),
      ...(classes === undefined ? {} : { passes: classes.numPasses }),
    });
    terminal.err(`${served.manifest.id}: ${engine.info.backend}, ${engine.info.dtype}, ${engine.info.isa}, ${engine.info.threads} threads\n`);
    const begin = performance.now();
    const log = (line: string): void => {
      terminal.err(`${((performance.now() - begin) / 1000).toFixed(0).padStart(5)} s  ${line}\n`);
    };
    const result = await runCalibration(studio, pack, combinations, options, log);
    terminal.out(`${calibrationTable(result)}\n`);
    if (values['dry-run'] === true) return 0;
    const fresh = calibrationFile(studio, folder, engine.info, result, options, new Date());
    const path = saveCalibration(folder, withKeptModes(fresh, readCalibrationFile(folder)));
    terminal.out(`wrote ${relative(process.cwd(), path)}\n`);
    return 0;
  } finally {
    engine.close();
  }
}

function optionsOf(values: FlagValues<typeof FLAGS>): CalibrationOptions {
  const base = values.quick === true ? QUICK : FULL;
  return {
    ...base,
    guard: { ...base.guard, ...(values.pictures === undefined ? {} : { fdPictures: values.pictures }) },
    gate: values.gate ?? 'auto',
    explore: values.explore ?? false,
    only: (values.modes ?? '').split(',').filter((name) => name !== '').map(modeKey),
  };
}

function modeKey(name: string): ModeKey {
  const found = MODE_KEYS.find((key) => key === name);
  if (found === undefined) throw new UsageError(`--modes: unknown ${JSON.stringify(name)}; there are ${MODE_KEYS.join(', ')}`);
  return found;
}
