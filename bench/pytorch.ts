import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineModel } from '../src/engine/engine.js';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { ComputeDtype, SequenceSpec } from '../src/engine/native-types.js';
import { openTextModel, type TextModel } from '../src/model/served-model.js';
import { gridOf } from '../src/model/sizes.js';
import { kvBlocksFor } from '../src/worker/capacity.js';
import type { Bench } from './context.js';
import { draw, MAX_STEP_TOKENS } from './draw.js';
import { LineProcess } from './line-process.js';
import { noiseOf } from './philox.js';
import { findPython, NO_PYTHON } from './python.js';
import type { PartReport, Row } from './report.js';
import { ratiosOf, show, spreadOf } from './stats.js';

const PROMPTS = ['red apple', 'cat face', 'rocket, 3d style', 'four leaf clover', 'snowman', 'pizza', 'sun behind cloud, 3d style', 'blue heart'];
const BATCHES = [1, 8];
const AIM = 3;
/** Levels of 255 by which the two sides' float32 pictures may differ. */
const TOLERANCE = 3;

type Dtype = 'float32' | 'bfloat16';

interface Job {
  specs: SequenceSpec[];
  /** The same work as a command for pytorch_eager.py. */
  command: Record<string, unknown>;
  rgbPath: string;
}

/** Ids to pixels: the engine against eager PyTorch, with the same weights, prompts, noise and timesteps. */
export async function benchPytorch(bench: Bench): Promise<PartReport> {
  const title = 'engine against eager PyTorch, prompt ids to pixels';
  const python = findPython();
  if (python === null) {
    return { title, rows: [], figures: {}, notMeasured: NO_PYTHON };
  }
  const threads = bench.info.threads;
  const torch = LineProcess.start(python, [join(PACKAGE_ROOT, 'bench', 'pytorch_eager.py')], { OMP_NUM_THREADS: String(threads) });
  try {
    const served = openTextModel(bench.options.modelDirectory);
    let version = '';
    for (const dtype of ['float32', 'bfloat16'] satisfies Dtype[]) {
      const loaded = JSON.parse(await torch.ask(JSON.stringify({ op: 'load', folder: served.manifest.directory, dtype, threads }))) as {
        torch: string;
        threads: number;
      };
      if (loaded.threads !== threads) throw new Error(`PyTorch runs ${loaded.threads} threads, the engine ${threads}`);
      version = loaded.torch;
    }
    const jobs = new Map(BATCHES.map((count) => [count, jobOf(served, count, bench.scratch)]));
    const difference = await compare(bench, served, torch, jobs.get(BATCHES.at(-1)!)!);
    const rows: Row[] = [{ what: 'largest pixel difference, float32 both', measured: `${difference} of 255`, aim: `≤ ${TOLERANCE}`, reached: difference <= TOLERANCE }];
    if (difference > TOLERANCE) return { title, rows, figures: { difference }, notMeasured: 'the two sides draw different pictures; nothing was timed' };
    const figures: Record<string, unknown> = { torch: version, threads, difference, timesteps: served.manifest.sampling.timesteps };
    const timed: Dtype = bench.info.dtype;
    for (const [count, job] of jobs) {
      bench.log(`pytorch: ${count} at once`);
      const { engine, eager, eagerFloat32 } = await time(bench, served, torch, job, timed);
      const ratio = spreadOf(ratiosOf(eager, engine));
      // Eager bfloat16 is slower than eager float32 on some processors; the stricter comparison is beside it.
      const strict = spreadOf(ratiosOf(eagerFloat32, engine));
      rows.push(
        { what: `${count} at once: engine, ${timed}`, measured: show(spreadOf(engine), 'ms', 1e3), aim: '' },
        { what: `${count} at once: PyTorch ${version} eager, ${timed}`, measured: show(spreadOf(eager), 'ms', 1e3), aim: '' },
        { what: `${count} at once: ratio`, measured: show(ratio, 'x'), aim: `≥ ${AIM}x`, reached: ratio.median >= AIM },
      );
      if (timed !== 'float32') rows.push({ what: `${count} at once: ratio to PyTorch eager in float32`, measured: show(strict, 'x'), aim: '' });
      figures[`batch${count}`] = { dtype: timed, engineSeconds: engine, eagerSeconds: eager, eagerFloat32Seconds: eagerFloat32, ratio, ratioToFloat32: strict };
    }
    return { title, rows, figures };
  } finally {
    torch.stop();
  }
}

function jobOf({ manifest, tokenizer }: TextModel, count: number, scratch: string): Job {
  const { sampling } = manifest;
  const grid = gridOf(manifest.sizes[0], manifest.pixelFactor)!;
  const row = (text: string): Int32Array => tokenizer.promptRow(tokenizer.encodeCaption(text, 512)!, grid);
  const captions = PROMPTS.slice(0, count).map(row);
  const guided = sampling.guidanceScale > 1;
  const negative = row(sampling.negativePrompt);
  const length = grid.height * grid.width;
  const width = manifest.latentChannels * manifest.latentPatchSize ** 2;
  const specs = captions.map((caption, index): SequenceSpec => ({
    id: index,
    promptRows: guided ? [caption, negative] : [caption],
    gridHeight: grid.height,
    gridWidth: grid.width,
    seed: 1000 + index,
    sampler: 'B',
    samplerLevel: 0,
    timesteps: sampling.timesteps,
    timestepShift: sampling.timestepShift,
    guidanceScale: sampling.guidanceScale,
    imageGuidanceScale: 1,
    guidanceSchedule: 'constant',
    useNorm: sampling.useNorm,
  }));
  const noisePath = join(scratch, `noise-${count}.f32`);
  const noise = specs.map((spec) => Buffer.from(noiseOf(spec.seed, length, sampling.timesteps, width).buffer));
  writeFileSync(noisePath, Buffer.concat(noise));
  const rgbPath = join(scratch, `pytorch-${count}.rgb`);
  const command = {
    op: 'draw',
    rows: [...captions, ...(guided ? captions.map(() => negative) : [])].map((ids) => [...ids]),
    noise: noisePath,
    grid: [grid.height, grid.width],
    timesteps: sampling.timesteps,
    shift: sampling.timestepShift,
    guidance: sampling.guidanceScale,
    use_norm: sampling.useNorm,
    rgb: rgbPath,
  };
  return { specs, command, rgbPath };
}

async function withModel<T>(bench: Bench, served: TextModel, dtype: ComputeDtype, use: (model: EngineModel) => Promise<T>): Promise<T> {
  const engine = bench.openEngine(dtype);
  try {
    const kvBlocks = kvBlocksFor(served.manifest, Math.max(...BATCHES));
    return await use(await engine.load(served.manifest.directory, { kvBlocks, maxStepTokens: MAX_STEP_TOKENS }));
  } finally {
    engine.close();
  }
}

/** Largest difference of a pixel between the float32 pictures of both sides: the same network, or no timing. */
async function compare(bench: Bench, served: TextModel, torch: LineProcess, job: Job): Promise<number> {
  const ours = await withModel(bench, served, 'float32', (model) => draw(model, job.specs));
  await torch.ask(JSON.stringify({ ...job.command, dtype: 'float32' }));
  const theirs = readFileSync(job.rgbPath);
  const pixels = Buffer.concat(ours.images.map((image) => image.rgb));
  if (pixels.length !== theirs.length) throw new Error(`pictures of ${pixels.length} and ${theirs.length} bytes`);
  return pixels.reduce((largest, value, index) => Math.max(largest, Math.abs(value - theirs[index]!)), 0);
}

interface Times {
  engine: number[];
  eager: number[];
  eagerFloat32: number[];
}

/** The sides take turns, so that a noisy neighbour hits all of them. */
async function time(bench: Bench, served: TextModel, torch: LineProcess, job: Job, dtype: Dtype): Promise<Times> {
  const eagerDraw = async (as: Dtype): Promise<number> =>
    (JSON.parse(await torch.ask(JSON.stringify({ ...job.command, dtype: as }))) as { seconds: number }).seconds;
  return withModel(bench, served, dtype, async (model) => {
    const times: Times = { engine: [], eager: [], eagerFloat32: [] };
    await draw(model, job.specs);
    await eagerDraw(dtype);
    for (let round = 0; round < bench.options.rounds; round += 1) {
      times.engine.push((await draw(model, job.specs)).wallSeconds);
      times.eager.push(await eagerDraw(dtype));
      times.eagerFloat32.push(dtype === 'float32' ? times.eager.at(-1)! : await eagerDraw('float32'));
    }
    return times;
  });
}
