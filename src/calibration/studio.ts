import type { EngineModel } from '../engine/engine.js';
import type { SequenceSpec } from '../engine/native-types.js';
import { prepareText } from '../gateway/image-request.js';
import { readNextStepManifest } from '../model/manifest.js';
import type { TextModel } from '../model/served-model.js';
import { loadTokenizer } from '../model/tokenizer.js';
import type { Prompt } from '../quality/pack.js';
import { specOf } from '../worker/runner.js';
import { drawGroup, type DrawnPicture } from './draw.js';

/** A loaded model, and how its pictures are asked for. */
export interface Studio {
  served: TextModel;
  model: EngineModel;
  maxStepTokens: number;
  /** Pictures drawn at once where only the pictures count. */
  batch: number;
}

/** As a request with `acceleration: off` would be drawn. */
export function vanillaSpec({ served }: Studio, { prompt, seed }: Prompt, id: number): SequenceSpec {
  const job = prepareText({ prompt, seed, acceleration: { mode: 'off' } }, served, () => seed);
  return specOf(job, job.promptRows.map((row) => Int32Array.from(row)), seed, id);
}

export type Way = (vanilla: SequenceSpec) => SequenceSpec;

/**
 * Draws every prompt in full batches and hands each picture over once, in order; the next group is drawn while the last one is
 * looked at.
 */
export async function drawAll(
  studio: Studio,
  prompts: readonly Prompt[],
  way: Way,
  look: (picture: DrawnPicture, index: number) => void,
  readTokens = false,
): Promise<void> {
  const { model, maxStepTokens, batch } = studio;
  const drawFrom = (begin: number) =>
    drawGroup(model, maxStepTokens, prompts.slice(begin, begin + batch).map((prompt, i) => way(vanillaSpec(studio, prompt, i))), readTokens);
  let group = prompts.length > 0 ? drawFrom(0) : null;
  for (let begin = 0; group !== null; begin += batch) {
    const { pictures } = await group;
    group = begin + batch < prompts.length ? drawFrom(begin + batch) : null;
    for (const [i, picture] of pictures.entries()) look(picture, begin + i);
  }
}

/** A model folder as it draws without its accelerator, whose calibration need not be there or hold. */
export function openUnaccelerated(directory: string): TextModel {
  const manifest = readNextStepManifest(directory);
  return { promptMode: 'text', manifest, tokenizer: loadTokenizer(manifest), calibration: null, acceleration: 'off', created: 0 };
}
