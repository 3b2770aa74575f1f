import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { onlyDevice, onlyModel, readConfig } from '../config.js';
import { openEngine } from '../engine/open-engine.js';
import { describeError } from '../errors.js';
import { encodeImage, type RgbImage } from '../image/encode.js';
import { openModelFolder } from '../model/served-model.js';
import { loadServed } from '../worker/local-worker.js';
import { adherence } from '../quality/adherence.js';
import { drawPrompts, type Drawer, type DrawOptions } from '../quality/draw.js';
import { FeatureNetwork, weight } from '../quality/features.js';
import { bootstrapDistance, fitGaussian, frechetDistance } from '../quality/frechet.js';
import { readQualityPack, type QualityPack } from '../quality/pack.js';
import { integer, UsageError } from './flags.js';
import { seededIntegers } from '../quality/random.js';

const USAGE = `Usage: npm run quality -- [--concepts N] [--fd N] [--timesteps N] [--guidance-scale X] [--save DIR]
       [server flags: --model, --device, --backend, --dtype, --threads, --max-batch]
Draws the 200 concepts of the model's quality pack, or the first N of them, and prints their adherence; with --fd N also the FD
of the first N of its prompts (the published figures take all 200 and 2000). --save keeps the pictures as DIR/{adherence,fd}/<i>.png.`;

/** The figures of docs/contract.md, Quality, drawn by the engine. */
async function main(argv: string[]): Promise<void> {
  const { own, rest } = splitFlags(argv);
  const config = readConfig(rest, process.env);
  const directory = onlyModel(config);
  const pack = await readQualityPack(directory);
  const served = openModelFolder(directory);
  const { engine } = openEngine({ device: onlyDevice(config), dtype: config.dtype, threads: config.threads });
  const { model, maxStepTokens } = await loadServed(engine, served.manifest, config);
  const drawer: Drawer = { served, model, maxStepTokens, maxBatch: config.maxBatch };
  console.log(`${served.manifest.id}: ${engine.info.backend}, ${engine.info.dtype}, ${engine.info.isa}`);
  await printAdherence(drawer, pack, own);
  if (own.fd > 0) await printDistance(drawer, pack, own);
  engine.close();
}

async function printAdherence(drawer: Drawer, pack: QualityPack, { options, save, concepts }: OwnFlags): Promise<void> {
  const { served } = drawer;
  const chosen = pack.concepts.slice(0, concepts);
  const pictures = await drawPrompts(drawer, chosen, options, progress('adherence', chosen.length));
  await savePictures(save, 'adherence', pictures);
  const hits = adherence({ ...pack, concepts: chosen }, pictures);
  const share = (wanted: (prompt: string) => boolean): string => {
    const of = hits.filter((_, i) => wanted(chosen[i]!.prompt));
    return (of.filter(Boolean).length / of.length).toFixed(3);
  };
  const bare = share((prompt) => !prompt.includes('style'));
  const styled = share((prompt) => prompt.includes('style'));
  // Classes have no styles.
  const forms = served.promptMode === 'text' ? `bare captions ${bare}, with a style ${styled}, ` : '';
  console.log(`adherence ${share(() => true)}  (${forms}${hits.length} concepts)`);
}

async function printDistance(drawer: Drawer, pack: QualityPack, { options, save, fd }: OwnFlags): Promise<void> {
  const prompts = pack.fdPrompts.slice(0, fd);
  const pictures = await drawPrompts(drawer, prompts, options, progress('FD', prompts.length));
  await savePictures(save, 'fd', pictures);
  const network = new FeatureNetwork(pack.features);
  const rows = pictures.map((picture) => network.features(picture));
  const reference = {
    mean: Float64Array.from(weight(pack.features, 'mean').data),
    covariance: Float64Array.from(weight(pack.features, 'covariance').data),
  };
  const distance = frechetDistance(fitGaussian(rows, rows.map((_, i) => i)), reference);
  const { low, high } = bootstrapDistance(rows, reference, 200, seededIntegers(1));
  console.log(`FD ${distance.toFixed(3)}  (95 % ${low.toFixed(3)} to ${high.toFixed(3)}, ${rows.length} pictures)`);
}

async function savePictures(directory: string | null, part: string, pictures: readonly RgbImage[]): Promise<void> {
  if (directory === null) return;
  const folder = join(directory, part);
  await mkdir(folder, { recursive: true });
  for (const [i, picture] of pictures.entries()) await writeFile(join(folder, `${i}.png`), await encodeImage(picture, 'png', 100));
}

function progress(what: string, total: number): (done: number) => void {
  if (!process.stderr.isTTY) return () => undefined;
  return (done) => process.stderr.write(`\r${what}: ${done} of ${total}${done === total ? '\n' : ''}`);
}

interface OwnFlags {
  /** Of the pack's, for adherence. */
  concepts: number;
  /** Pictures for FD; 0: none. */
  fd: number;
  options: DrawOptions;
  save: string | null;
}

/** Our own flags apart from the server's, which mean what they mean there. */
function splitFlags(argv: string[]): { own: OwnFlags; rest: string[] } {
  const names = ['concepts', 'fd', 'timesteps', 'guidance-scale', 'save'];
  const isOwn = (arg: string): boolean => names.some((name) => arg === `--${name}` || arg.startsWith(`--${name}=`));
  const own: string[] = [];
  const rest: string[] = [];
  for (let i = 0; i < argv.length; i += 1) {
    const target = isOwn(argv[i]!) ? own : rest;
    target.push(argv[i]!);
    if (!argv[i]!.includes('=') && argv[i + 1] !== undefined) target.push(argv[(i += 1)]!);
  }
  const text = { type: 'string' as const };
  const { values } = parseArgs({ args: own, options: { concepts: text, fd: text, timesteps: text, 'guidance-scale': text, save: text } });
  return {
    own: {
      concepts: count('concepts', values.concepts, Infinity),
      fd: count('fd', values.fd, 0),
      save: values.save ?? null,
      options: {
        ...(values.timesteps === undefined ? {} : { num_inference_steps: Number(values.timesteps) }),
        ...(values['guidance-scale'] === undefined ? {} : { guidance_scale: Number(values['guidance-scale']) }),
      },
    },
    rest,
  };
}

function count(flag: string, value: string | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  try {
    return integer('', [1]).parse(value);
  } catch (error) {
    throw new UsageError(`--${flag}: ${describeError(error)}, got ${value}`);
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`quality: ${describeError(error)}\n${USAGE}`);
  process.exitCode = 1;
}
