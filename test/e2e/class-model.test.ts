import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { wrapEngine, type Engine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import { openStudio } from '../../src/calibration/open-studio.js';
import { fewStepWay, settingsOf, wayOf } from '../../src/calibration/settings.js';
import { drawAll } from '../../src/calibration/studio.js';
import { strictDrafts } from '../../src/calibration/tolerance.js';
import { TRACE_COLUMNS, type FewStep } from '../../src/engine/native-types.js';
import type { ClassJob, DraftCounts, JobAcceleration, JobEvent, JobPreview } from '../../src/jobs/job.js';
import type { JobWorker } from '../../src/jobs/job-worker.js';
import { openModelFolder, type ClassModel } from '../../src/model/served-model.js';
import { startLocalWorker } from '../../src/worker/local-worker.js';
import { PASS_MODES } from '../support/accelerator-folder.js';
import { JOB_REQUEST } from '../support/manual-worker.js';
import { isAddonBuilt } from '../support/server-process.js';
import { copyClassModel, writeUntrainedClassAccelerator } from '../support/untrained-class-accelerator.js';

/** 8 px in three passes, with its VAE; as it is, and with an accelerator. */
const root = mkdtempSync(join(tmpdir(), 'ardiff-class-model-'));
const MODEL = copyClassModel(join(PACKAGE_ROOT, 'train', 'golden-transdiff'), join(root, 'plain'));
const ACCELERATED = copyClassModel(MODEL, join(root, 'accelerated'));

beforeAll(async () => {
  await writeUntrainedClassAccelerator(ACCELERATED);
});

afterAll(() => {
  rmSync(root, { recursive: true });
});

/** The whole worker on the real engine, without a server around it. */
class Rig {
  private constructor(
    readonly model: ClassModel,
    private readonly engine: Engine,
    private readonly worker: JobWorker,
  ) {}

  static async start(kvSequences = 16, dtype: 'float32' | 'bfloat16' = 'float32', directory = MODEL): Promise<Rig> {
    const model = openModelFolder(directory);
    if (model.promptMode !== 'class') throw new Error(`${directory} draws no classes`);
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
const draftsOf = (events: readonly JobEvent[]): DraftCounts => {
  const end = events.at(-1);
  if (end?.kind !== 'succeeded') throw new Error('the job has not succeeded');
  return end.result.images[0]!.drafts;
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

/** As a request would have it, but for the tolerance. */
function relaxed(fewStep: FewStep, tolerance: number): JobAcceleration {
  const { gate, costs, drafting, acceptance } = PASS_MODES.relaxed!.speculation!;
  return { fewStep, underLoad: 0, speculation: { mode: 'relaxed', drafting, maxDraftTokens: 1, tolerance, gate, costs, acceptance, adaptive: false, trace: false, draftJumps: 2 } };
}

const fewSteps = (fewStep: FewStep): JobAcceleration => ({ fewStep, underLoad: 0, speculation: null });
const NOTHING_EXCEEDS = 1e30;

describe.skipIf(!isAddonBuilt())('an accelerated model of classes on the real engine', () => {
  afterEach(async () => {
    await rig.stop();
  });

  it('draws every mode with the same bytes alone, in a crowd and in a pool too small for it', { timeout: 120_000 }, async () => {
    rig = await Rig.start(16, 'float32', ACCELERATED);
    const requests = [
      rig.request(2, { seeds: [11, 12] }),
      rig.request(0, { acceleration: fewSteps(1) }),
      rig.request(1, { acceleration: fewSteps(4), seeds: [3, 4] }),
      rig.request(5, { acceleration: relaxed(0, NOTHING_EXCEEDS) }),
      rig.request(3, { acceleration: relaxed(2, 0), timesteps: 9 }),
      rig.request(4, { acceleration: relaxed(2, NOTHING_EXCEEDS), guidanceScale: 1 }),
    ];
    const alone: string[][] = [];
    for (const request of requests) alone.push(imagesOf(await rig.draw(request)));
    expect(new Set(alone.flat()).size).toBe(8);
    expect((await Promise.all(requests.map((request) => rig.draw(request)))).map(imagesOf)).toEqual(alone);
    await rig.stop();
    rig = await Rig.start(2, 'float32', ACCELERATED);
    expect((await Promise.all(requests.map((request) => rig.draw(request)))).map(imagesOf)).toEqual(alone);
  });

  it('keeps the picture of off where nothing is near enough, and says what became of the drafts', { timeout: 60_000 }, async () => {
    rig = await Rig.start(16, 'float32', ACCELERATED);
    const off = await rig.draw(rig.request(2));
    const strict = await rig.draw(rig.request(2, { acceleration: relaxed(0, 0) }));
    expect(imagesOf(strict)).toEqual(imagesOf(off));
    expect(draftsOf(strict)).toEqual({ rounds: 2, draftTokens: 2, acceptedTokens: 0, gateStops: 0 });
    const loose = await rig.draw(rig.request(2, { acceleration: relaxed(0, NOTHING_EXCEEDS) }));
    expect(imagesOf(loose)).not.toEqual(imagesOf(off));
    expect(draftsOf(loose)).toEqual({ rounds: 2, draftTokens: 2, acceptedTokens: 2, gateStops: 0 });
    // Both: drafts of as many jumps as the picture has are its few steps.
    const both = await rig.draw(rig.request(2, { acceleration: relaxed(2, NOTHING_EXCEEDS) }));
    expect(imagesOf(both)).toEqual(imagesOf(await rig.draw(rig.request(2, { acceleration: fewSteps(2) }))));
  });

  it('counts timesteps to the same end in every mode, and shows what passes end with', { timeout: 60_000 }, async () => {
    rig = await Rig.start(16, 'float32', ACCELERATED);
    for (const [acceleration, total, accepted] of [
      [fewSteps(2), 6, 0],
      [relaxed(0, NOTHING_EXCEEDS), 18, 12],
      [relaxed(0, 0), 18, 0],
      [relaxed(2, NOTHING_EXCEEDS), 14, 12],
    ] as const) {
      const events = await rig.draw(rig.request(1, { timesteps: 6, partialImages: 2, acceleration }));
      const tokens = events.flatMap((event) => (event.kind === 'tokens' ? [event] : []));
      expect(tokens.at(-1)).toMatchObject({ to: total, total });
      for (const [i, { from }] of tokens.entries()) expect(from).toBe(i === 0 ? 0 : tokens[i - 1]!.to);
      expect(tokens.flatMap((event) => event.accepted ?? []).filter(Boolean)).toHaveLength(accepted);
      expect(partialsOf(events).map(({ index }) => index)).toEqual([0, 1]);
    }
  });
});

describe.skipIf(!isAddonBuilt())('calibration of a model of classes', () => {
  it('draws alone and in groups the same pictures, and hears of every draft', { timeout: 60_000 }, async () => {
    const engine = wrapEngine(new (loadNativeModule().Engine)({ backend: 'cpu', dtype: 'float32', threads: 2 }));
    try {
      const studio = await openStudio(engine, ACCELERATED, join(ACCELERATED, 'accelerator'), 4);
      const prompts = [0, 1, 2, 3, 4].map((label) => ({ prompt: String(label), seed: label }));
      const ways = { off: fewStepWay(0), jumps: fewStepWay(2), drafts: wayOf({ mode: 'relaxed', fewStep: 0 }, { ...settingsOf(PASS_MODES.relaxed!.speculation!), tolerance: NOTHING_EXCEEDS }, { adaptive: false, trace: true }) };
      for (const [name, way] of Object.entries(ways)) {
        const grouped: Uint8Array[] = [];
        await drawAll(studio, prompts, way, ({ image, decode }) => {
          grouped.push(image.rgb);
          expect(decode.rounds).toHaveLength(name === 'drafts' ? 2 : 0);
          expect(decode.trace).toHaveLength(name === 'drafts' ? 2 * TRACE_COLUMNS : 0);
        });
        await drawAll({ ...studio, batch: 1 }, prompts, way, ({ image }, index) => {
          expect(image.rgb).toEqual(grouped[index]);
        });
        expect(new Set(grouped.map((rgb) => Buffer.from(rgb).toString('base64'))).size).toBe(5);
      }
      expect(await strictDrafts(studio, { mode: 'relaxed', fewStep: 0 }, prompts, 0, { draftJumps: 1 })).toHaveLength(10);
    } finally {
      engine.close();
    }
  });
});
