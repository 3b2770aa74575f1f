import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { wrapEngine } from '../src/engine/engine.js';
import { ADDON_PATH, loadNativeModule, PACKAGE_ROOT } from '../src/engine/native.js';
import { settingsOf } from '../src/calibration/settings.js';
import { ACCELERATOR_FOLDER, readCalibration } from '../src/model/accelerator.js';
import { readManifest } from '../src/model/manifest.js';
import { readQualityPack } from '../src/quality/pack.js';
import { isGateName, type GateName } from './drafts/gates.js';
import { HEADER, lineOf, measureDraft, openMeasure } from './drafts/measure.js';
import { withAcceleratorOf } from './drafts/folder.js';
import { runScript } from './run-script.js';

const USAGE = `Usage: npm run bench:drafts -- [flags]
  --draft NAME=FILE  a draft model's weights (again for more; default: the model's own)
  --gates LIST       off, paper, calibrated: which ways to end the drafting early (default: all three)
  --drafts N         offered in every round (default 8)
  --tolerance X      up to which a draft is kept (default: the stored one of relaxed + few_step 1)
  --pictures N       for FD (default 2000), and twice 200 concepts for adherence
  --csv FILE         one line a row, appended as they come
  --model DIR        default models/nextstep-emoji64
What drafts and gates give, without a clock: relaxed drafting with the one-jump head and a fixed number of drafts offered, so that only draft and
gate differ. Tokens a round, how many drafts were drawn and kept for that, what that is worth by the stored costs, and what it does to the pictures.`;

/** Pictures drawn at once. */
const BATCH = 16;

function readOptions() {
  const { values } = parseArgs({
    options: {
      draft: { type: 'string', multiple: true, default: [] },
      gates: { type: 'string', default: 'off,paper,calibrated' },
      drafts: { type: 'string', default: '8' },
      tolerance: { type: 'string' },
      pictures: { type: 'string', default: '2000' },
      csv: { type: 'string' },
      model: { type: 'string', default: join(PACKAGE_ROOT, 'models', 'nextstep-emoji64') },
      threads: { type: 'string', default: '0' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  const gates: GateName[] = values.gates.split(',').map((name) => {
    if (!isGateName(name)) throw new Error(`--gates ${name}: there are off, paper and calibrated`);
    return name;
  });
  const own = join(values.model, ACCELERATOR_FOLDER, 'draft.safetensors');
  const drafts = values.draft.map((text) => {
    const [name, file] = text.split('=');
    if (name === undefined || file === undefined || !existsSync(file)) throw new Error(`--draft ${text}: no NAME=FILE, or there is no such file`);
    return { name, file };
  });
  return { ...values, gates, drafts: Number(values.drafts), pictures: Number(values.pictures), threads: Number(values.threads), models: drafts.length > 0 ? drafts : [{ name: 'bundled', file: own }] };
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options === null) {
    console.log(USAGE);
    return;
  }
  const manifest = readManifest(options.model);
  const stored = readCalibration(manifest.directory, manifest.sampling)?.modes['relaxed:few_step:1']?.speculation;
  if (stored == null) throw new Error(`${options.model} has no calibrated relaxed + few_step 1`);
  const settings = { ...settingsOf(stored), maxDraftTokens: options.drafts, ...(options.tolerance === undefined ? {} : { tolerance: Number(options.tolerance) }) };
  const pack = await readQualityPack(manifest.directory);
  const { Engine } = loadNativeModule(process.env['ARDIFF_ADDON'] ?? ADDON_PATH);
  const engine = wrapEngine(new Engine({ backend: 'cpu', dtype: 'auto', threads: options.threads }));
  if (options.csv !== undefined) writeFileSync(options.csv, `${HEADER.join()}\n`);
  console.log(HEADER.join('\t'));
  try {
    for (const { name, file } of options.models) {
      await withAcceleratorOf(manifest.directory, file, async (folder) => {
        const measure = await openMeasure(engine, manifest.directory, folder, { pack, batch: BATCH, pictures: options.pictures, settings });
        for (const gate of options.gates) {
          const row = lineOf(name, gate, await measureDraft(measure, gate));
          console.log(row.join('\t'));
          if (options.csv !== undefined) appendFileSync(options.csv, `${row.join()}\n`);
        }
        await measure.close();
      });
    }
  } finally {
    engine.close();
  }
}

await runScript(main);
