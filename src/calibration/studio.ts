import type { EngineModel } from '../engine/engine.js';
import type { SequenceSpec } from '../engine/native-types.js';
import { prepareRequest } from '../gateway/image-request.js';
import { ClassResolver } from '../model/class-resolution.js';
import { readManifest } from '../model/manifest.js';
import type { ServedModel } from '../model/served-model.js';
import { loadTokenizer } from '../model/tokenizer.js';
import type { Prompt } from '../quality/pack.js';
import { specOfPicture } from '../worker/runner.js';
import { drawGroup } from './draw.js';
import type { DrawnPicture } from './drawn.js';

/** A loaded model, and how its pictures are asked for. */
export interface Studio {
  served: ServedModel;
  model: EngineModel;
  maxStepTokens: number;
  /** Pictures drawn at once where only the pictures count. */
  batch: number;
}

/** As a request with `acceleration: off` would be drawn. */
export function vanillaSpec({ served }: Studio, { prompt, seed }: Prompt, id: number): SequenceSpec {
  const job = prepareRequest({ prompt, seed, acceleration: { mode: 'off' } }, served, () => seed);
  return specOfPicture(job, job.prompt === 'text' ? job.promptRows.map((row) => Int32Array.from(row)) : [], seed, id);
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
export function openUnaccelerated(directory: string): ServedModel {
  const manifest = readManifest(directory);
  const common = { calibration: null, acceleration: 'off', created: 0 } as const;
  return manifest.promptMode === 'text'
    ? { promptMode: 'text', manifest, tokenizer: loadTokenizer(manifest), ...common }
    : { promptMode: 'class', manifest, resolver: new ClassResolver(manifest.classes.classes), ...common };
}
