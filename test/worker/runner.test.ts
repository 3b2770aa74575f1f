import { Registry } from 'prom-client';
import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { wrapEngine } from '../../src/engine/engine.js';
import { NEUTRAL } from '../../src/image/preview.js';
import type { JobEvent, JobPreview, JobRequest } from '../../src/jobs/job.js';
import type { JobWorker, RunningJob } from '../../src/jobs/job-worker.js';
import { openModelFolder } from '../../src/model/served-model.js';
import { startLocalWorker } from '../../src/worker/local-worker.js';
import { FakeEngine, type FakeEngineOptions } from '../support/fake-engine.js';
import { JOB_REQUEST } from '../support/manual-worker.js';
import { PREVIEW, writeModelFolder } from '../support/model-folder.js';
import { promptRow } from '../support/specs.js';
import { until } from '../support/until.js';

/** The worker as the server starts it, on the fake engine. */
class Rig {
  readonly registry = new Registry();
  readonly engine: FakeEngine;
  private worker!: JobWorker;
  private removeFolder: () => void = () => undefined;

  constructor(options: FakeEngineOptions = {}) {
    this.engine = new FakeEngine({ ...options, pixelFactor: 16 });
  }

  async start(preview: unknown = PREVIEW): Promise<this> {
    const folder = writeModelFolder(preview === null ? {} : { preview });
    this.removeFolder = folder.remove;
    const { manifest } = openModelFolder(folder.directory);
    this.worker = await startLocalWorker(wrapEngine(this.engine), manifest, { name: 'w', kvSequences: 16, maxBatch: 16 }, this.registry, { error: () => undefined });
    return this;
  }

  begin(request: JobRequest): { events: JobEvent[]; job: RunningJob; end: Promise<JobEvent[]> } {
    const events: JobEvent[] = [];
    let settle: (events: JobEvent[]) => void;
    const end = new Promise<JobEvent[]>((resolve) => (settle = resolve));
    const job = this.worker.start(request, (event) => {
      events.push(event);
      if (event.kind === 'succeeded' || event.kind === 'failed') settle(events);
    });
    return { events, job, end };
  }

  draw(request: JobRequest): Promise<JobEvent[]> {
    return this.begin(request).end;
  }

  async metric(name: string): Promise<number> {
    const line = (await this.registry.metrics()).split('\n').find((candidate) => candidate.startsWith(`${name}{`));
    return Number(line?.split(' ').at(-1));
  }

  async stop(): Promise<void> {
    await this.worker.stop();
    this.removeFolder();
  }
}

const REQUEST: JobRequest = {
  ...JOB_REQUEST,
  model: 'tiny',
  promptRows: [[...promptRow(1, 6)], [...promptRow(2, 4)]],
  gridHeight: 8,
  gridWidth: 4,
  seeds: [1, 2],
};

const previewsOf = (events: readonly JobEvent[], kind: JobPreview['kind'], image?: number): JobPreview[] =>
  events.flatMap((event) =>
    event.kind === 'preview' && event.preview.kind === kind && (image ?? event.preview.image) === event.preview.image ? [event.preview] : [],
  );

/** Kind and image number of what is seen of one image. */
const order = (events: readonly JobEvent[], image: number): string[] =>
  events.flatMap((event) => {
    if (event.kind === 'preview' && event.preview.image === image) return [event.preview.kind];
    return event.kind === 'image' && event.image.index === image ? ['image'] : [];
  });

let rig: Rig;

afterEach(async () => {
  await rig.stop();
});

describe('Runner, previews', () => {
  it('refuses rows of a model that cannot show them, before anything is drawn', async () => {
    rig = await new Rig().start(null);
    expect(() => rig.begin({ ...REQUEST, rowPreviews: true })).toThrow(/'tiny' has no preview\.json/);
    expect(rig.engine.plans).toEqual([]);
    // Whole pictures need no map.
    expect(previewsOf(await rig.draw({ ...REQUEST, partialImages: 1 }), 'full')).toHaveLength(2);
  });

  it('shows nothing to those who do not ask, at no cost', async () => {
    rig = await new Rig().start();
    const events = await rig.draw(REQUEST);
    expect(events.filter((event) => event.kind === 'preview')).toEqual([]);
    expect(rig.engine.plans.flatMap((plan) => [...plan.read, ...plan.vae])).toHaveLength(2);
    expect(await rig.metric('ardiff_preview_seconds_total')).toBe(0);
  });

  it.each([1, 2, 3])('shows %i partial pictures of each image, then the image', async (partialImages) => {
    rig = await new Rig().start();
    const events = await rig.draw({ ...REQUEST, partialImages });
    expect(events.at(-1)?.kind).toBe('succeeded');
    for (const image of [0, 1]) {
      expect(order(events, image)).toEqual([...Array<string>(partialImages).fill('full'), 'image']);
      for (const [index, preview] of previewsOf(events, 'full', image).entries()) {
        expect(preview).toMatchObject({ index, format: 'png', width: 64, height: 128, rect: { x: 0, y: 0, width: 64, height: 128 } });
        const finished = Math.ceil((8 * (index + 1)) / (partialImages + 1)) * 16;
        const rgb = await sharp(preview.bytes).raw().toBuffer();
        expect(new Set(rgb.subarray(finished * 64 * 3))).toEqual(new Set([NEUTRAL]));
        expect(new Set(rgb.subarray(0, finished * 64 * 3)).size).toBeGreaterThan(5);
      }
    }
    expect(await rig.metric('ardiff_preview_seconds_total')).toBeGreaterThan(partialImages * 2 * 0.001);
  });

  it('gives partial pictures in the format of the picture', async () => {
    rig = await new Rig().start();
    const events = await rig.draw({ ...REQUEST, format: 'jpeg', compression: 60, partialImages: 1, seeds: [5] });
    const [preview] = previewsOf(events, 'full');
    expect(preview!.format).toBe('jpeg');
    expect((await sharp(preview!.bytes).metadata()).format).toBe('jpeg');
  });

  it('gives the same partial bytes alone and in a crowd, step by step and in bursts', async () => {
    const bytes = (events: readonly JobEvent[]): string[] => previewsOf(events, 'full').map((preview) => Buffer.from(preview.bytes).toString('base64'));
    rig = await new Rig().start();
    const request: JobRequest = { ...REQUEST, partialImages: 3, seeds: [7] };
    const alone = bytes(await rig.draw(request));
    expect(new Set(alone).size).toBe(3);
    const others = [1, 2, 3, 4, 5].map((seed) => rig.draw({ ...request, seeds: [seed, seed + 10], partialImages: seed % 4 }));
    expect(bytes(await rig.draw(request))).toEqual(alone);
    await Promise.all(others);
    await rig.stop();
    rig = await new Rig({ roundSeconds: 0.0006 }).start();
    await rig.draw(request);
    expect(bytes(await rig.draw(request))).toEqual(alone);
    expect(Math.max(...rig.engine.plans.flatMap((plan) => plan.decode.map((entry) => entry.rounds)))).toBeGreaterThan(1);
  });

  it('shows every row once and in order, however they are cut into strips', async () => {
    rig = await new Rig().start();
    const events = await rig.draw({ ...REQUEST, rowPreviews: true });
    const { weights: [grey] } = { weights: PREVIEW.latent_rgb };
    expect(grey).toHaveLength(4);
    for (const image of [0, 1]) {
      const strips = previewsOf(events, 'rows', image);
      expect(strips.map((strip) => strip.index)).toEqual(strips.map((_, index) => index));
      let y = 0;
      for (const strip of strips) {
        expect(strip).toMatchObject({ format: 'png', width: 8, height: strip.rect.height / 8, rect: { x: 0, y, width: 64 } });
        y += strip.rect.height;
        expect(await sharp(strip.bytes).metadata()).toMatchObject({ format: 'png', width: strip.width, height: strip.height });
      }
      expect(y).toBe(128);
      expect(order(events, image).at(-1)).toBe('image');
    }
    expect(await rig.metric('ardiff_preview_seconds_total')).toBeGreaterThan(0);
  });

  it('paints rows by the map of the model', async () => {
    rig = await new Rig().start();
    const events = await rig.draw({ ...REQUEST, rowPreviews: true, seeds: [3] });
    const strips = await Promise.all(previewsOf(events, 'rows').map((strip) => sharp(strip.bytes).raw().toBuffer()));
    const shown = [...Buffer.concat(strips)];
    // The fake engine's token numbers are a function of the spec: read again what was read then, as one range.
    const spec = rig.engine.plans.flatMap((plan) => plan.admit)[0]!;
    const step = (rest: object) => rig.engine.step(1, { release: [], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [], read: [], ...rest });
    await step({ admit: [spec] });
    rig.engine.live.get(spec.id)!.emitted = 32;
    const { tokens } = await step({ read: [{ sequence: spec.id, begin: 0, end: 32 }] });
    const data = tokens[0]!.data;
    // Latent pixel (y, x): number (y % 2) * 2 + x % 2 of channel 0 of token (y / 2, x / 2); 16 numbers a token.
    const grey = (y: number, x: number): number => 0.25 + data[((y >> 1) * 4 + (x >> 1)) * 16 + (y % 2) * 2 + (x % 2)]! / 2;
    const expected = Array.from({ length: 16 * 8 }, (_, i) => Math.round(255 * grey(Math.floor(i / 8), i % 8))).flatMap((value) => [value, value, value]);
    expect(shown).toEqual(expected);
  });

  it('shows nothing more after a cancel, and goes on for the others', async () => {
    rig = await new Rig({ stepMs: 2 }).start();
    const lost = rig.begin({ ...REQUEST, partialImages: 3, rowPreviews: true });
    const other = rig.draw({ ...REQUEST, partialImages: 3, rowPreviews: true, seeds: [9] });
    await until(() => previewsOf(lost.events, 'rows').length > 0);
    lost.job.cancel('api');
    const seen = lost.events.length;
    const events = await other;
    expect(order(events, 0).filter((kind) => kind === 'full')).toHaveLength(3);
    expect(events.at(-1)?.kind).toBe('succeeded');
    expect(lost.events).toHaveLength(seen);
  });
});
