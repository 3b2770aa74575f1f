import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { wrapEngine, type Engine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import { NEUTRAL } from '../../src/image/preview.js';
import type { JobEvent, JobImage, JobPreview, JobRequest } from '../../src/jobs/job.js';
import type { JobWorker } from '../../src/jobs/job-worker.js';
import { openModelFolder, type ServedModel } from '../../src/model/served-model.js';
import { startLocalWorker } from '../../src/worker/local-worker.js';
import { JOB_REQUEST } from '../support/manual-worker.js';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

const TINY = join(PACKAGE_ROOT, 'test', 'golden', 'nextstep-tiny');
const BUNDLED = join(PACKAGE_ROOT, 'models', 'nextstep-emoji64');

interface Drawn {
  image: JobImage;
  partials: JobPreview[];
  strips: JobPreview[];
}

/** The whole worker on the real engine, without a server around it. */
class Rig {
  private constructor(
    readonly model: ServedModel,
    private readonly engine: Engine,
    private readonly worker: JobWorker,
    private readonly registry: Registry,
  ) {}

  static async start(directory: string, { dtype = 'float32' as 'float32' | 'bfloat16', kvSequences = 16 } = {}): Promise<Rig> {
    const model = openModelFolder(directory);
    const engine = wrapEngine(new (loadNativeModule().Engine)({ backend: 'cpu', dtype, threads: 2 }));
    const options = { name: 'w', kvSequences, maxBatch: 16 };
    const registry = new Registry();
    return new Rig(model, engine, await startLocalWorker(engine, model.manifest, options, registry, { error: () => undefined }), registry);
  }

  request(prompt: string, changes: Partial<JobRequest>): JobRequest {
    const { tokenizer, manifest } = this.model;
    const shape = { gridHeight: 8, gridWidth: 8, ...changes };
    const row = (text: string): number[] => [...tokenizer.promptRow(tokenizer.encodeCaption(text, 512)!, { height: shape.gridHeight, width: shape.gridWidth })];
    const { sampler, timestepShift, useNorm, timesteps } = manifest.sampling;
    return { ...JOB_REQUEST, model: manifest.id, promptRows: [row(prompt), row('')], guidanceScale: 3, sampler, timestepShift, useNorm, timesteps, ...shape };
  }

  draw(request: JobRequest): Promise<Drawn> {
    return new Promise((resolve, reject) => {
      const events: JobEvent[] = [];
      this.worker.start(request, (event) => {
        events.push(event);
        if (event.kind === 'failed') reject(event.error);
        if (event.kind !== 'succeeded') return;
        const previews = events.flatMap((seen) => (seen.kind === 'preview' ? [seen.preview] : []));
        const of = (kind: JobPreview['kind']): JobPreview[] => previews.filter((preview) => preview.kind === kind);
        resolve({ image: event.result.images[0]!, partials: of('full'), strips: of('rows') });
      });
    });
  }

  async preemptions(): Promise<number> {
    const metric = await this.registry.getSingleMetric('ardiff_preemptions_total')!.get();
    return metric.values.reduce((sum, { value }) => sum + value, 0);
  }

  async stop(): Promise<void> {
    await this.worker.stop();
    this.engine.close();
  }
}

function tinyModel(): string {
  const directory = join(mkdtempSync(join(tmpdir(), 'ardiff-previews-')), 'tiny');
  cpSync(TINY, directory, { recursive: true });
  writeFileSync(join(directory, 'sampling.json'), JSON.stringify({ sampler: 'B', timesteps: 4, guidance_scale: 3, use_norm: true, sizes: ['128x128'] }));
  const weights = [[0.2, 0, 0.1, 0], [0, 0.2, 0, -0.1], [0.1, 0.1, 0.1, 0.1]];
  writeFileSync(join(directory, 'preview.json'), JSON.stringify({ latent_rgb: weights, bias: [0.5, 0.5, 0.5], range: 'RGB in 0..1' }));
  return directory;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** Bytes of the partial pictures and of the picture; of the rows the pixels: where they are cut into strips is the clock's. */
async function seen({ image, partials, strips }: Drawn): Promise<string[]> {
  const rows = Buffer.concat(await Promise.all(strips.map(({ bytes }) => sharp(bytes).raw().toBuffer())));
  return [...partials, image].map(({ bytes }) => base64(bytes)).concat(base64(rows));
}

let rig: Rig;

describe.skipIf(!isAddonBuilt())('previews of the real engine', () => {
  afterEach(async () => {
    await rig.stop();
  });

  it.each(['float32', 'bfloat16'] as const)('are the same bytes alone, in a crowd and through preemptions (%s)', { timeout: 60_000 }, async (dtype) => {
    const directory = tinyModel();
    try {
      rig = await Rig.start(directory, { dtype });
      const requests = Array.from({ length: 8 }, (_, i) =>
        rig.request(['a cat', 'two birds on a tree', 'x'][i % 3]!, {
          seeds: [i * 1_000_003],
          partialImages: 1 + (i % 3),
          rowPreviews: true,
          timesteps: 2 + (i % 4),
          gridHeight: 6 + (i % 3),
        }),
      );
      const alone: string[][] = [];
      for (const request of requests) alone.push(await seen(await rig.draw(request)));
      // All different, so that equality says something.
      expect(new Set(alone.flat()).size).toBe(alone.flat().length);
      expect(alone.map((pictures) => pictures.length)).toEqual(requests.map(({ partialImages }) => partialImages + 2));
      // Looking does not change what is drawn.
      for (const [i, request] of requests.entries()) {
        expect(base64((await rig.draw({ ...request, partialImages: 0, rowPreviews: false })).image.bytes)).toBe(alone[i]!.at(-2));
      }
      const together = (): Promise<string[][]> => Promise.all(requests.map(async (request) => seen(await rig.draw(request))));
      expect(await together()).toEqual(alone);
      expect(await rig.preemptions()).toBe(0);
      await rig.stop();
      rig = await Rig.start(directory, { dtype, kvSequences: 3 });
      expect(await together()).toEqual(alone);
      expect(await rig.preemptions()).toBeGreaterThan(0);
    } finally {
      rmSync(join(directory, '..'), { recursive: true });
    }
  });

  it('show the finished rows of the bundled model as they will be, and the rest grey', { timeout: 60_000 }, async () => {
    rig = await Rig.start(BUNDLED);
    const { image, partials } = await rig.draw(rig.request('red apple', { seeds: [1], partialImages: 3 }));
    const whole = await sharp(image.bytes).raw().toBuffer();
    const differences: number[] = [];
    for (const [i, partial] of partials.entries()) {
      const rgb = await sharp(partial.bytes).raw().toBuffer();
      const finished = 16 * (i + 1) * 64 * 3;
      expect(new Set(rgb.subarray(finished))).toEqual(new Set([NEUTRAL]));
      differences.push(meanDifference(rgb.subarray(0, finished), whole.subarray(0, finished)));
    }
    // The decoder sees the whole latent (attention, group norms), so zeros below change what is above: less each time.
    expect(differences).toEqual([...differences].sort((a, b) => b - a));
    expect(differences[0]).toBeLessThan(40);
    expect(differences[2]).toBeLessThan(16);
  });

  it('show rows of the bundled model in colours near those of the picture', { timeout: 60_000 }, async () => {
    rig = await Rig.start(BUNDLED);
    for (const prompt of ['red apple', 'blue heart', 'cat face']) {
      const { image, strips } = await rig.draw(rig.request(prompt, { seeds: [1], rowPreviews: true }));
      const shown = Buffer.concat(await Promise.all(strips.map(({ bytes }) => sharp(bytes).raw().toBuffer())));
      const small = await sharp(image.bytes).resize(16, 16, { kernel: 'cubic' }).raw().toBuffer();
      expect(shown).toHaveLength(16 * 16 * 3);
      expect(meanDifference(shown, small)).toBeLessThan(24);
      // And not merely a field of one grey: turned upside down it fits much worse.
      const flipped = await sharp(small, { raw: { width: 16, height: 16, channels: 3 } }).flip().raw().toBuffer();
      expect(meanDifference(shown, small)).toBeLessThan(meanDifference(shown, flipped));
    }
  });
});

describe.skipIf(!isAddonBuilt())('previews of a real server', () => {
  it('are seen once each, with the same bytes, when the worker is killed among them', { timeout: 120_000 }, async () => {
    const server = await ServerProcess.start();
    try {
      const bodies = [1, 2, 3].map((seed) => ({ prompt: 'a cat', seed, n: seed === 3 ? 2 : 1, num_inference_steps: 100, partial_images: seed, stream: true }));
      const drawAll = (): Promise<string[][]> => Promise.all(bodies.map((body) => streamed(server.port, body)));
      const undisturbed = await drawAll();
      // Of each image its partials and itself.
      expect(undisturbed.map((events) => events.length)).toEqual([2, 3, 8]);
      const before = await server.metric('ardiff_previews_total{transport="sse",result="sent"}');
      const drawing = drawAll();
      await server.until('ardiff_previews_total{transport="sse",result="sent"}', (sent) => sent >= before + 3);
      await until(() => server.workerPid() !== null, 'a worker');
      process.kill(server.workerPid()!, 'SIGKILL');
      expect(await drawing).toEqual(undisturbed);
      expect(await server.metric('ardiff_worker_restarts_total{reason="exit"}')).toBe(1);
    } finally {
      await server.stop();
    }
  });
});

/** `image/partial bytes` of each event (`index` is there where a request has several pictures), image by image: between images the order is the clock's. */
async function streamed(port: number, body: object): Promise<string[]> {
  const reply = await fetch(`http://127.0.0.1:${port}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const events = [...(await reply.text()).matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!) as { index?: number; partial_image_index?: number; b64_json: string });
  return [0, 1].flatMap((image) =>
    events.filter(({ index }) => (index ?? 0) === image).map(({ partial_image_index: partial, b64_json: bytes }) => `${image}/${partial ?? 'image'} ${bytes}`),
  );
}

/** Of 255. */
function meanDifference(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;
}
