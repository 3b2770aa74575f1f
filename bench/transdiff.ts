import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineModel } from '../src/engine/engine.js';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { ComputeDtype, LoadOptions, SequenceSpec } from '../src/engine/native-types.js';
import { MAX_TRANSFORMER_ROWS } from '../src/worker/capacity.js';
import type { Bench } from './context.js';
import { draw } from './draw.js';
import { LineProcess } from './line-process.js';
import { noiseOf } from './philox.js';
import { findPython, NO_PYTHON } from './python.js';
import type { PartReport, Row } from './report.js';
import { ratiosOf, show, spreadOf } from './stats.js';
import { writeTransDiffL } from './synthetic-transdiff.js';

const CALL_AIM = 1.3;
/** Levels of 255 by which the two sides' float32 pictures of a trained model may differ. */
const TOLERANCE = 3;
/** Timesteps of a pass that are drawn, and of what the times are scaled to. */
const TIMESTEPS = 2;
const RELEASED_TIMESTEPS = 100;
/** Of a latent, in all released models and the bundled one. */
const CHANNELS = 16;
/** Whole pictures take long; a few rounds tell. */
const PICTURE_ROUNDS = 3;

type Dtype = 'float32' | 'bfloat16';
const DTYPES: readonly Dtype[] = ['bfloat16', 'float32'];

/** Seconds of one picture, and of them those in calls of the diffusion decoder: what more timesteps multiply. */
interface PictureSeconds {
  seconds: number;
  decoder: number;
}

/** TransDiff-L of random weights against eager PyTorch: one call of the diffusion decoder, and whole pictures. */
export async function benchTransDiff(bench: Bench): Promise<PartReport> {
  const title = `TransDiff-L, 256 pixels, random weights (${bench.info.dtype}): engine against eager PyTorch`;
  const python = findPython();
  if (python === null) return { title, rows: [], figures: {}, notMeasured: NO_PYTHON };
  const scratch = mkdtempSync(join(bench.scratch, 'transdiff-'));
  const torch = new Eager(LineProcess.start(python, [join(PACKAGE_ROOT, 'bench', 'pytorch_transdiff.py')], { OMP_NUM_THREADS: String(bench.info.threads) }), bench.info.threads, scratch);
  try {
    const trained = join(PACKAGE_ROOT, 'models', 'transdiff-emoji64');
    const difference = await compare(bench, torch, trained);
    const rows: Row[] = [{ what: 'largest pixel difference on transdiff-emoji64, float32 both', measured: `${difference} of 255`, aim: `≤ ${TOLERANCE}`, reached: difference <= TOLERANCE }];
    if (difference > TOLERANCE) return { title, rows, figures: { difference }, notMeasured: 'the two sides draw different pictures; nothing was timed' };
    const figures: Record<string, unknown> = { difference, torch: torch.version, threads: bench.info.threads, dtype: bench.info.dtype, timesteps: TIMESTEPS };
    const folder = join(scratch, 'model');
    for (const passes of [1, 4] as const) {
      bench.log(`transdiff: writing random weights, ${passes === 1 ? 'one pass' : `${passes} passes`}`);
      figures['parameters'] = await writeTransDiffL(folder, passes);
      for (const dtype of DTYPES) await torch.load(folder, dtype);
      if (passes === 1) await timeCalls(bench, torch, folder, rows, figures);
      await timePictures(bench, torch, folder, passes, rows, figures);
    }
    return { title, rows, figures };
  } finally {
    torch.stop();
    rmSync(scratch, { recursive: true });
  }
}

/** Both guidance rows of one picture attend to all 256 condition tokens. The engine's: of the timesteps of a picture of one pass. */
async function timeCalls(bench: Bench, torch: Eager, folder: string, rows: Row[], figures: Record<string, unknown>): Promise<void> {
  bench.log('transdiff: calls of the decoder');
  const engine: number[] = [];
  const given = new Map<Dtype, number[]>(DTYPES.map((dtype) => [dtype, []]));
  const asReference = new Map<Dtype, number[]>(DTYPES.map((dtype) => [dtype, []]));
  await withModel(bench, folder, bench.info.dtype, {}, async (model) => {
    for (let round = -1; round < bench.options.rounds; round += 1) {
      const { decoder } = await pictureSeconds(model, specOf(model, round + 1, TIMESTEPS));
      if (round >= 0) engine.push(decoder / TIMESTEPS);
      for (const dtype of DTYPES) {
        const [ready, whole] = [await torch.call(dtype, true), await torch.call(dtype, false)];
        if (round < 0) continue;
        given.get(dtype)!.push(ready);
        asReference.get(dtype)!.push(whole);
      }
    }
  });
  const best = bestOf(given);
  const ratio = spreadOf(ratiosOf(given.get(best)!, engine));
  const whole = spreadOf(ratiosOf(asReference.get(best)!, engine));
  rows.push({ what: `decoder call, 2 rows: engine, ${bench.info.dtype}`, measured: show(spreadOf(engine), 'ms', 1e3), aim: '' });
  for (const dtype of DTYPES) rows.push({ what: `decoder call: PyTorch ${torch.version} eager, ${dtype}`, measured: show(spreadOf(given.get(dtype)!), 'ms', 1e3), aim: '' });
  rows.push(
    { what: `decoder call: ratio to PyTorch's better, ${best}`, measured: show(ratio, 'x'), aim: `≥ ${CALL_AIM}x`, reached: ratio.median >= CALL_AIM },
    { what: 'decoder call: ratio with what the reference computes anew in each', measured: show(whole, 'x'), aim: '' },
  );
  figures['call'] = { engine, eager: Object.fromEntries(given), eagerAsReference: Object.fromEntries(asReference), ratio, ratioAsReference: whole };
}

/** A picture as it is asked for, guidance included; PyTorch draws as the reference does. Times are those of 100 timesteps a pass. */
async function timePictures(bench: Bench, torch: Eager, folder: string, passes: number, rows: Row[], figures: Record<string, unknown>): Promise<void> {
  const name = passes === 1 ? 'one pass' : `${passes} passes`;
  bench.log(`transdiff: pictures, ${name}`);
  const cached: number[] = [];
  const uncached: number[] = [];
  const eager = new Map<Dtype, number[]>(DTYPES.map((dtype) => [dtype, []]));
  await withModel(bench, folder, bench.info.dtype, {}, (model) =>
    withModel(bench, folder, bench.info.dtype, { caches: false }, async (recomputing) => {
      // Once ahead, for what is slow only the first time; its class is another one.
      for (const one of [model, recomputing]) await pictureSeconds(one, specOf(one, 999, 1));
      for (let round = 0; round < Math.min(PICTURE_ROUNDS, bench.options.rounds); round += 1) {
        const spec = specOf(model, round, TIMESTEPS);
        cached.push(scaled(await pictureSeconds(model, spec)));
        uncached.push(scaled(await pictureSeconds(recomputing, spec)));
        for (const dtype of DTYPES) eager.get(dtype)!.push(scaled(await torch.draw(dtype, passes, spec)));
      }
    }),
  );
  const best = bestOf(eager);
  const ratio = spreadOf(ratiosOf(eager.get(best)!, cached));
  const alone = spreadOf(ratiosOf(uncached, cached));
  const call = (figures['call'] as { ratio: { median: number } }).ratio.median;
  const scaledTo = `${RELEASED_TIMESTEPS} timesteps a pass, scaled from ${TIMESTEPS}`;
  rows.push({ what: `picture, ${name}, ${scaledTo}: engine`, measured: show(spreadOf(cached), 's'), aim: '' });
  rows.push({ what: `picture, ${name}: engine without its caches`, measured: show(spreadOf(uncached), 's'), aim: '' });
  for (const dtype of DTYPES) rows.push({ what: `picture, ${name}: PyTorch eager as the reference, ${dtype}`, measured: show(spreadOf(eager.get(dtype)!), 's'), aim: '' });
  rows.push(
    { what: `picture, ${name}: the caches alone`, measured: show(alone, 'x'), aim: '' },
    { what: `picture, ${name}: ratio to PyTorch's better, ${best}`, measured: show(ratio, 'x'), aim: `> the call's ${Number(call.toPrecision(3))}x`, reached: ratio.median > call },
  );
  figures[`picture${passes}`] = { engine: cached, engineWithoutCaches: uncached, eager: Object.fromEntries(eager), ratio, cachesAlone: alone };
}

/** The faster one. */
function bestOf(times: ReadonlyMap<Dtype, readonly number[]>): Dtype {
  const median = (dtype: Dtype): number => spreadOf(times.get(dtype)!).median;
  return median('bfloat16') <= median('float32') ? 'bfloat16' : 'float32';
}

function scaled({ seconds, decoder }: PictureSeconds): number {
  return seconds + decoder * (RELEASED_TIMESTEPS / TIMESTEPS - 1);
}

/** Another class each time: without references the engine keeps what it has made of one. */
function specOf({ info }: EngineModel, classLabel: number, timesteps: number): SequenceSpec {
  const { grid } = info.classes!;
  const neutral = { samplerLevel: 0, timestepShift: 1, imageGuidanceScale: 1, guidanceSchedule: 'constant', useNorm: false } as const;
  return {
    id: 0, promptRows: [], classLabel, gridHeight: grid, gridWidth: grid, seed: 1000 + classLabel, sampler: 'maruyama', timesteps, guidanceScale: 1.3, driftScale: 0.925, noiseScale: 0.95, ...neutral,
  };
}

async function pictureSeconds(model: EngineModel, spec: SequenceSpec): Promise<PictureSeconds> {
  const { wallSeconds, steps } = await draw(model, [spec], MAX_TRANSFORMER_ROWS);
  return { seconds: wallSeconds, decoder: steps.reduce((sum, { flowHead }) => sum + flowHead, 0) };
}

async function withModel<T>(bench: Bench, folder: string, dtype: ComputeDtype, options: Partial<LoadOptions>, use: (model: EngineModel) => Promise<T>): Promise<T> {
  const engine = bench.openEngine(dtype);
  try {
    return await use(await engine.load(folder, { kvBlocks: 1, kvPictures: 1, maxStepTokens: MAX_TRANSFORMER_ROWS, ...options }));
  } finally {
    engine.close();
  }
}

/** Largest difference of a pixel between the float32 pictures of both sides: the same network and sampler, or no timing. */
async function compare(bench: Bench, torch: Eager, folder: string): Promise<number> {
  await torch.load(folder, 'float32');
  return withModel(bench, folder, 'float32', {}, async (model) => {
    const spec = specOf(model, 7, 4);
    const { images } = await draw(model, [spec], MAX_TRANSFORMER_ROWS);
    await torch.draw('float32', model.info.classes!.numPasses, spec);
    const [ours, theirs] = [images[0]!.rgb, torch.pixels()];
    if (ours.length !== theirs.length) throw new Error(`pictures of ${ours.length} and ${theirs.length} bytes`);
    return ours.reduce((largest, value, index) => Math.max(largest, Math.abs(value - theirs[index]!)), 0);
  });
}

/** pytorch_transdiff.py. */
class Eager {
  version = '';

  constructor(
    private readonly process: LineProcess,
    private readonly threads: number,
    private readonly scratch: string,
  ) {}

  /** In the place of the one of that dtype. */
  async load(folder: string, dtype: Dtype): Promise<void> {
    const loaded = await this.ask<{ torch: string; threads: number }>({ op: 'load', folder, dtype, threads: this.threads });
    if (loaded.threads !== this.threads) throw new Error(`PyTorch runs ${loaded.threads} threads, the engine ${this.threads}`);
    this.version = loaded.torch;
  }

  async call(dtype: Dtype, given: boolean): Promise<number> {
    return (await this.ask<{ seconds: number }>({ op: 'call', dtype, rows: 2, given })).seconds;
  }

  draw(dtype: Dtype, passes: number, spec: SequenceSpec): Promise<PictureSeconds> {
    const latent = spec.gridHeight * spec.gridWidth * CHANNELS;
    const noise = join(this.scratch, 'noise.f32');
    writeFileSync(noise, Buffer.from(noiseOf(spec.seed, passes, spec.timesteps, latent).buffer));
    const { timesteps, guidanceScale: guidance, driftScale, noiseScale, classLabel } = spec;
    return this.ask({ op: 'draw', dtype, labels: [classLabel], noise, timesteps, guidance, scale_0: driftScale, scale_1: noiseScale, rgb: this.rgb });
  }

  /** Of the last one drawn. */
  pixels(): Buffer {
    return readFileSync(this.rgb);
  }

  stop(): void {
    this.process.stop();
  }

  private get rgb(): string {
    return join(this.scratch, 'pytorch.rgb');
  }

  private async ask<T>(command: object): Promise<T> {
    return JSON.parse(await this.process.ask(JSON.stringify(command))) as T;
  }
}
