// A model whose drafts always look worth their cost. Where calibration found that they are not, the controller drafts nothing
// (docs/speculation.md), and a check of drafted pictures would draw none.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** Shares of the model's own token: what a round takes less than a token pays whatever is accepted. */
const COSTS = { plain: 1, round: 0.1, draft: 0.001, verify: 0.001 };

/** A folder of links to `model` with another calibration, for the caller to remove with its parent; null: it has no accelerator. */
export function makeDraftingModel(model) {
  const calibrationPath = join(model, 'accelerator', 'accelerator.json');
  if (!existsSync(calibrationPath)) return null;
  const parent = mkdtempSync(join(tmpdir(), 'serve-check-'));
  const folder = join(parent, `${basename(model)}-drafting`);
  mkdirSync(join(folder, 'accelerator'), { recursive: true });
  linkAll(model, folder, 'accelerator');
  linkAll(join(model, 'accelerator'), join(folder, 'accelerator'), 'accelerator.json');
  const calibration = JSON.parse(readFileSync(calibrationPath, 'utf8'));
  for (const { speculation } of Object.values(calibration.modes)) {
    if (speculation !== null) Object.assign(speculation, { costs: COSTS, gate: { kind: 'off' } });
  }
  writeFileSync(join(folder, 'accelerator', 'accelerator.json'), JSON.stringify(calibration));
  return { parent, folder };
}

function linkAll(from, to, except) {
  for (const name of readdirSync(from)) {
    if (name !== except) symlinkSync(join(from, name), join(to, name));
  }
}
