import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { fewStepWay } from '../../src/calibration/settings.js';
import { OTHER_SEEDS } from '../../src/calibration/evaluate.js';
import { drawAll, openUnaccelerated, type Studio, type Way } from '../../src/calibration/studio.js';
import { wrapEngine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import type { RoundRecord } from '../../src/engine/native-types.js';
import { ACCELERATOR_FOLDER } from '../../src/model/accelerator.js';
import { FeatureNetwork } from '../../src/quality/features.js';
import { readQualityPack, type QualityPack } from '../../src/quality/pack.js';
import { kvBlocksFor } from '../../src/worker/capacity.js';
import { covarianceTest, energyTest, meanTest, type Rows } from './statistics/paired-tests.js';

const MODEL = process.env['ARDIFF_TEST_MODEL'] ?? join(PACKAGE_ROOT, 'models', 'nextstep-emoji64');
const ACCELERATOR = join(MODEL, ACCELERATOR_FOLDER);
const BATCH = 16;
const MAX_STEP_TOKENS = 1024;

interface LawBench {
  studio: Studio;
  pack: QualityPack;
  close: () => void;
}

async function openLawBench(): Promise<LawBench> {
  const served = openUnaccelerated(MODEL);
  const { Engine } = loadNativeModule();
  const engine = wrapEngine(new Engine({ backend: 'cpu', dtype: 'auto', threads: 0 }));
  const model = await engine.load(MODEL, { kvBlocks: kvBlocksFor(served.manifest, 2 * BATCH), maxStepTokens: MAX_STEP_TOKENS, accelerator: ACCELERATOR });
  return {
    studio: { served, model, maxStepTokens: MAX_STEP_TOKENS, batch: BATCH },
    pack: await readQualityPack(MODEL),
    close: () => {
      engine.close();
    },
  };
}

export interface DrawnSet {
  /** Of the pictures. */
  features: Rows;
  /** All numbers of all tokens of a picture, as the backbone sees them. */
  tokens: Rows;
  tokenSize: number;
  rounds: RoundRecord[];
}

/** The first prompts of the quality pack; `set` chooses seeds that no other set has. */
async function drawSet({ studio, pack }: LawBench, pictures: number, way: Way, set: number): Promise<DrawnSet> {
  const network = new FeatureNetwork(pack.features);
  const prompts = pack.fdPrompts.slice(0, pictures).map(({ prompt, seed }) => ({ prompt, seed: seed + set * OTHER_SEEDS }));
  const drawn = { features: [] as Float64Array[], tokens: [] as Float64Array[], tokenSize: studio.model.info.tokenSize, rounds: [] as RoundRecord[] };
  const look: Parameters<typeof drawAll>[3] = ({ image, tokens, decode }) => {
    drawn.features.push(network.features(image));
    drawn.tokens.push(Float64Array.from(tokens!));
    drawn.rounds.push(...(decode.rounds ?? []));
  };
  await drawAll(studio, prompts, way, look, true);
  return drawn;
}

/** An engine for the tests of a describe, and `pictures` pictures of the model's own sampler to compare with. */
export function useLawBench(pictures: number, timeoutMs: number): { draw: (way: Way, set: number) => Promise<DrawnSet>; vanilla: () => DrawnSet } {
  let bench: LawBench;
  let vanilla: DrawnSet;
  beforeAll(async () => {
    bench = await openLawBench();
    vanilla = await drawSet(bench, pictures, fewStepWay(0), 1);
  }, timeoutMs);
  afterAll(() => {
    bench.close();
  });
  return { draw: (way, set) => drawSet(bench, pictures, way, set), vanilla: () => vanilla };
}

export interface LawTest {
  name: string;
  p: number;
}

/** All tests of one comparison. `positions`: mean and covariance of every token position too, which needs many pictures. */
export function compareLaws(a: DrawnSet, b: DrawnSet, positions: boolean): LawTest[] {
  const tests = [
    { name: 'features: mean', p: meanTest(a.features, b.features) },
    { name: 'features: covariance', p: covarianceTest(a.features, b.features, 1) },
    { name: 'features: energy', p: energyTest(a.features, b.features, 2) },
    { name: 'tokens: energy', p: energyTest(a.tokens, b.tokens, 3) },
  ];
  const count = positions ? a.tokens[0]!.length / a.tokenSize : 0;
  for (let position = 0; position < count; position += 1) {
    const at = ({ tokens, tokenSize }: DrawnSet): Rows => tokens.map((row) => row.subarray(position * tokenSize, (position + 1) * tokenSize));
    tests.push({ name: `token ${position}: mean`, p: meanTest(at(a), at(b)) }, { name: `token ${position}: covariance`, p: covarianceTest(at(a), at(b), 10 + position) });
  }
  return tests;
}

/** The smallest p, corrected for how many were looked at (Bonferroni), and whose it is. */
export function worst(tests: readonly LawTest[]): LawTest {
  const least = tests.reduce((a, b) => (b.p < a.p ? b : a));
  return { name: least.name, p: Math.min(1, least.p * tests.length) };
}
