import { join } from 'node:path';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { wrapEngine, type Engine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import type { ClassJob, JobEvent, JobPreview } from '../../src/jobs/job.js';
import type { JobWorker } from '../../src/jobs/job-worker.js';
import { openModelFolder, type ClassModel } from '../../src/model/served-model.js';
import { startLocalWorker } from '../../src/worker/local-worker.js';
import { JOB_REQUEST } from '../support/manual-worker.js';
import { isAddonBuilt } from '../support/server-process.js';

/** 8 px in three passes, with its VAE. */
const MODEL = join(PACKAGE_ROOT, 'train', 'golden-transdiff');

/** The whole worker on the real engine, without a server around it. */
class Rig {
  private constructor(
    readonly model: ClassModel,
    private readonly engine: Engine,
    private readonly worker: JobWorker,
  ) {}

  static async start(kvSequences = 16, dtype: 'float32' | 'bfloat16' = 'float32'): Promise<Rig> {
    const model = openModelFolder(MODEL);
    if (model.promptMode !== 'class') throw new Error(`${MODEL} draws no classes`);
    const engine = wrapEngine(new (loadNativeModule().Engine)({ backend: 'cpu', dtype, threads: 2 }));
    return new Rig(model, engine, await startLocalWorker(engine, model.manifest, { name: 'w', kvSequences, maxBatch: 16 }, new Registry(), { error: () => undefined }));
  }

  request(classLabel: number, changes: Partial<ClassJob> = {}): ClassJob {
    const { format, compression, quality, acceleration } = JOB_REQUEST;
    const { id, passes, sampling } = this.model.manifest;
    const { sampler, timesteps, guidanceScale, driftScale, noiseScale } = sampling;
    const how = { sampler, timesteps, guidanceScale, driftScale, noiseScale };
    const what = { prompt: 'class' as const, model: id, classLabel, passes, gridHeight: 4, gridWidth: 4, seeds: [7] };
    return { ...what, ...how, acceleration, quality, format, compression, partialImages: 0, rowPreviews: false, ...changes };
  }

  draw(request: ClassJob): Promise<JobEvent[]> {
    return new Promise((resolve, reject) => {
      const events: JobEvent[] = [];
      this.worker.start(request, (event) => {
        events.push(event);
        if (event.kind === 'failed') reject(event.error);
        if (event.kind === 'succeeded') resolve(events);
      });
    });
  }

  /** Draws until `until` holds, then cancels. */
  leave(request: ClassJob, until: (event: JobEvent) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const job = this.worker.start(request, (event) => {
        if (!until(event)) return;
        job.cancel('api');
        resolve();
      });
    });
  }

  async stop(): Promise<void> {
    await this.worker.stop();
    this.engine.close();
  }
}

const imagesOf = (events: readonly JobEvent[]): string[] => {
  const end = events.at(-1);
  if (end?.kind !== 'succeeded') throw new Error('the job has not succeeded');
  return end.result.images.map(({ bytes }) => Buffer.from(bytes).toString('base64'));
};
const partialsOf = (events: readonly JobEvent[]): JobPreview[] => events.flatMap((event) => (event.kind === 'preview' ? [event.preview] : []));

let rig: Rig;

describe.skipIf(!isAddonBuilt())('a model of classes on the real engine', () => {
  afterEach(async () => {
    await rig.stop();
  });

  it('draws the same bytes alone, in a crowd and in a pool too small for it', { timeout: 120_000 }, async () => {
    rig = await Rig.start();
    const requests = [
      rig.request(2, { seeds: [11, 12] }),
      rig.request(0, { timesteps: 9, guidanceScale: 1 }),
      rig.request(5, { timesteps: 23, guidanceScale: 2.5 }),
      rig.request(2, { seeds: [13], timesteps: 5 }),
    ];
    const alone: string[][] = [];
    for (const request of requests) alone.push(imagesOf(await rig.draw(request)));
    expect(new Set(alone.flat()).size).toBe(5);
    const crowd = await Promise.all(requests.map((request) => rig.draw(request)));
    expect(crowd.map(imagesOf)).toEqual(alone);
    await rig.stop();
    // Two pictures' worth of blocks for five: they wait, and are preempted as passes grow.
    rig = await Rig.start(2);
    const cramped = await Promise.all(requests.map((request) => rig.draw(request)));
    expect(cramped.map(imagesOf)).toEqual(alone);
  });

  it('tells of every timestep once, and shows the pictures that passes end with', { timeout: 60_000 }, async () => {
    rig = await Rig.start();
    const events = await rig.draw(rig.request(1, { timesteps: 6, partialImages: 2 }));
    const tokens = events.flatMap((event) => (event.kind === 'tokens' ? [event] : []));
    expect(tokens[0]?.from).toBe(0);
    expect(tokens.at(-1)).toMatchObject({ to: 18, total: 18 });
    for (const [i, { from }] of tokens.slice(1).entries()) expect(from).toBe(tokens[i]!.to);
    const partials = partialsOf(events);
    expect(partials.map(({ index, kind, width, height }) => ({ index, kind, width, height }))).toEqual([
      { index: 0, kind: 'full', width: 8, height: 8 },
      { index: 1, kind: 'full', width: 8, height: 8 },
    ]);
    // Whole pictures: nothing of them is painted over.
    for (const { bytes } of partials) {
      const { data } = await sharp(bytes).removeAlpha().raw().toBuffer({ resolveWithObject: true });
      expect(new Set(data.subarray(-8 * 3)).size).toBeGreaterThan(1);
    }
    // What is shown on the way changes nothing, and fewer stages are the first ones.
    expect(imagesOf(await rig.draw(rig.request(1, { timesteps: 6 })))).toEqual(imagesOf(events));
    const one = partialsOf(await rig.draw(rig.request(1, { timesteps: 6, partialImages: 1 })));
    expect(one.map(({ bytes }) => [...bytes])).toEqual([[...partials[0]!.bytes]]);
  });

  it('goes on for the others when one leaves in the middle of a pass or between two', { timeout: 60_000 }, async () => {
    rig = await Rig.start();
    const staying = rig.request(3, { timesteps: 12 });
    const alone = imagesOf(await rig.draw(staying));
    for (const at of [1, 5, 6, 12]) {
      const others = rig.draw(staying);
      await rig.leave(rig.request(4, { timesteps: 6, seeds: [1, 2] }), (event) => event.kind === 'tokens' && event.to >= at);
      expect(imagesOf(await others)).toEqual(alone);
    }
  });
});
