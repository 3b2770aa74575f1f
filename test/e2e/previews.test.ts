import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { wrapEngine, type Engine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import { NEUTRAL } from '../../src/image/preview.js';
import type { JobEvent, JobImage, JobPreview, JobRequest, TextJob } from '../../src/jobs/job.js';
import type { JobWorker } from '../../src/jobs/job-worker.js';
import { openTextModel, type TextModel } from '../../src/model/served-model.js';
import { startLocalWorker } from '../../src/worker/local-worker.js';
import { cpuComputesIn, DTYPES } from '../support/cpu-dtypes.js';
import { JOB_REQUEST } from '../support/manual-worker.js';
import { isAddonBuilt } from '../support/server-process.js';

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
    readonly model: TextModel,
    private readonly engine: Engine,
    private readonly worker: JobWorker,
  ) {}

  static async start(directory: string, { dtype = 'float32' as 'float32' | 'bfloat16', kvSequences = 16 } = {}): Promise<Rig> {
    const model = openTextModel(directory);
    const engine = wrapEngine(new (loadNativeModule().Engine)({ backend: 'cpu', dtype, threads: 2 }));
    const options = { name: 'w', kvSequences, maxBatch: 16 };
    return new Rig(model, engine, await startLocalWorker(engine, model.manifest, options, new Registry(), { error: () => undefined }));
  }

  request(prompt: string, changes: Partial<TextJob>): TextJob {
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

  async stop(): Promise<void> {
    await this.worker.stop();
    this.engine.close();
  }
}

function tinyModel(): string {
  const directory = join(mkdtempSync(join(tmpdir(), 'ardiff-previews-')), 'tiny');
  cpSync(TINY, directory, { recursive: true });
  writeFileSync(join(directory, 'sampling.json'), JSON.stringify({ sampler: 'B', timesteps: 4, guidance_scale: 3, use_norm: true, sizes: ['128x128'] }));
  return directory;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const seen = ({ image, partials }: Drawn): string[] => [...partials, image].map(({ bytes }) => base64(bytes));

let rig: Rig;

afterEach(async () => {
  await rig.stop();
});

describe.skipIf(!isAddonBuilt())('previews of the real engine', () => {
  it.for(DTYPES)('are the same bytes alone, in a crowd and through preemptions (%s)', { timeout: 60_000 }, async (dtype, { skip }) => {
    skip(!cpuComputesIn(dtype), 'this processor does not multiply bfloat16');
    const directory = tinyModel();
    try {
      rig = await Rig.start(directory, { dtype });
      const requests = Array.from({ length: 8 }, (_, i) =>
        rig.request(['a cat', 'two birds on a tree', 'x'][i % 3]!, {
          seeds: [i * 1_000_003],
          partialImages: 1 + (i % 3),
          timesteps: 2 + (i % 4),
          gridHeight: 6 + (i % 3),
        }),
      );
      const alone: string[][] = [];
      for (const request of requests) alone.push(seen(await rig.draw(request)));
      // All different, so that equality says something.
      expect(new Set(alone.flat()).size).toBe(alone.flat().length);
      expect(alone.map((pictures) => pictures.length)).toEqual(requests.map(({ partialImages }) => partialImages + 1));
      // Looking does not change what is drawn.
      for (const [i, request] of requests.entries()) expect(base64((await rig.draw({ ...request, partialImages: 0 })).image.bytes)).toBe(alone[i]!.at(-1));
      expect((await Promise.all(requests.map((request) => rig.draw(request)))).map(seen)).toEqual(alone);
      await rig.stop();
      rig = await Rig.start(directory, { dtype, kvSequences: 3 });
      expect((await Promise.all(requests.map((request) => rig.draw(request)))).map(seen)).toEqual(alone);
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

/** Of 255. */
function meanDifference(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;
}
