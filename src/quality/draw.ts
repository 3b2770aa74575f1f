import type { EngineModel } from '../engine/engine.js';
import { prepareRequest } from '../gateway/image-request.js';
import type { ImagesRequest } from '../gateway/schemas.js';
import type { RgbImage } from '../image/encode.js';
import type { ServedModel } from '../model/served-model.js';
import { specOfPicture } from '../worker/runner.js';
import { createSchedulerState } from '../worker/scheduler/state.js';
import { StepLoop } from '../worker/scheduler/step-loop.js';
import type { Prompt } from './pack.js';

/** Overrides of the model's defaults, as a request would name them. */
export type DrawOptions = Pick<ImagesRequest, 'guidance_scale' | 'num_inference_steps'>;

export interface Drawer {
  served: ServedModel;
  model: EngineModel;
  maxStepTokens: number;
  maxBatch: number;
}

/** Draws every prompt with its seed in full batches, as a request to the server with acceleration off would; in order. */
export async function drawPrompts(drawer: Drawer, prompts: readonly Prompt[], options: DrawOptions, onPicture: (done: number) => void): Promise<RgbImage[]> {
  const { model, served, maxStepTokens, maxBatch } = drawer;
  const { kvBlocks, blockTokens, classes } = model.info;
  const limits = { numBlocks: kvBlocks, blockTokens, maxStepTokens, maxRunning: maxBatch, maxVaePerStep: 4 };
  const state = createSchedulerState(classes === undefined ? limits : { ...limits, classes });
  const loop = new StepLoop(state, model, { onStep: () => undefined, onStepFailed: () => undefined });
  loop.start();
  let done = 0;
  try {
    return await Promise.all(
      prompts.map(({ prompt, seed }, id) => {
        const job = prepareRequest({ prompt, seed, acceleration: { mode: 'off' }, ...options }, served, () => seed);
        const rows = job.prompt === 'text' ? job.promptRows.map((row) => Int32Array.from(row)) : [];
        const spec = specOfPicture(job, rows, seed, id);
        return new Promise<RgbImage>((resolve, reject) => {
          loop.add(spec, {
            onEvent: (event) => {
              if (event.kind !== 'image') return;
              done += 1;
              onPicture(done);
              resolve(event.image);
            },
            onError: reject,
          });
        });
      }),
    );
  } finally {
    await loop.stop();
  }
}
