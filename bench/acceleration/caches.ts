import { vanillaSpec, type Studio } from '../../src/calibration/studio.js';
import type { Engine } from '../../src/engine/engine.js';
import type { Prompt } from '../../src/quality/pack.js';
import { MAX_TRANSFORMER_ROWS } from '../../src/worker/capacity.js';
import { draw } from '../draw.js';
import { speedup, type WaySpeed } from './speed.js';
import type { Spread } from '../stats.js';
import type { BenchWay } from './ways.js';

/** What is computed anew by a model that is loaded without its caches, and how often. Rows of a model of one pass: its passes are one. */
export const CACHES_OFF = [
  'keys and values of the condition: at every timestep, not once a pass',
  'what follows from the time: at every timestep, not once a sampler setting',
  'transformer: over all positions in every pass, not over the new block',
  'features of a class, of a model of one pass: for every picture, not once',
] as const;

/** Same model, same engine, its accelerator left out: it draws as the model's reference computes (docs/transdiff.md 2). */
export async function openUncached(engine: Engine, studio: Studio): Promise<Studio> {
  const { served, batch } = studio;
  const model = await engine.load(served.manifest.directory, { kvBlocks: 1, kvPictures: 2 * batch, maxStepTokens: MAX_TRANSFORMER_ROWS, caches: false });
  return { ...studio, model };
}

/** The same pictures, or there is nothing to compare. */
export async function checkSameBytes(studio: Studio, uncached: Studio, prompts: readonly Prompt[]): Promise<void> {
  const specs = prompts.map((prompt, i) => vanillaSpec(studio, prompt, i));
  const [kept, anew] = [await draw(studio.model, specs, studio.maxStepTokens), await draw(uncached.model, specs, uncached.maxStepTokens)];
  const differs = kept.images.findIndex(({ rgb }, i) => !Buffer.from(rgb.buffer, rgb.byteOffset, rgb.byteLength).equals(Buffer.from(anew.images[i]!.rgb)));
  if (differs >= 0) throw new Error(`without its caches the model draws another picture of ${JSON.stringify(prompts[differs]!.prompt)}`);
}

export function withoutCaches(way: BenchWay, uncached: Studio): BenchWay {
  return { ...way, name: `${way.name}, without the caches`, studio: uncached };
}

/** What the caches alone are worth to each way that was drawn with and without them. */
export interface CachesReport {
  off: readonly string[];
  speedup: Record<string, Spread>;
}

export function cachesReport(pairs: readonly (readonly [cached: BenchWay, uncached: BenchWay])[], speed: ReadonlyMap<string, WaySpeed>): CachesReport | null {
  if (pairs.length === 0) return null;
  const ratio = ([cached, uncached]: (typeof pairs)[number]): [string, Spread] => [cached.name, speedup(speed.get(uncached.name)!.alone, speed.get(cached.name)!.alone)];
  return { off: CACHES_OFF, speedup: Object.fromEntries(pairs.map(ratio)) };
}
