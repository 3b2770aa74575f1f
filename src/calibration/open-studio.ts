import type { Engine } from '../engine/engine.js';
import { kvBlocksFor, MAX_TRANSFORMER_ROWS, maxStepTokensOfPasses } from '../worker/capacity.js';
import { openUnaccelerated, type Studio } from './studio.js';

/** Rows of a step of a model that draws token by token: a full batch of drafts in all rows, and prompts. */
const MAX_STEP_TOKENS = 1024;

/** A model of either family, with the accelerator in `folder`, and room for two groups of `batch` pictures: one is drawn while the last is looked at. */
export async function openStudio(engine: Engine, directory: string, folder: string, batch: number): Promise<Studio> {
  const served = openUnaccelerated(directory);
  if (served.promptMode === 'text') {
    const model = await engine.load(directory, { kvBlocks: kvBlocksFor(served.manifest, 2 * batch), maxStepTokens: MAX_STEP_TOKENS, accelerator: folder });
    return { served, model, maxStepTokens: MAX_STEP_TOKENS, batch };
  }
  const model = await engine.load(directory, { kvBlocks: 1, kvPictures: 2 * batch, maxStepTokens: MAX_TRANSFORMER_ROWS, accelerator: folder });
  return { served, model, maxStepTokens: Math.min(MAX_TRANSFORMER_ROWS, maxStepTokensOfPasses(model.info.classes!, batch)), batch };
}
