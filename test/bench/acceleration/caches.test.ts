import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachesReport, checkSameBytes, openUncached, withoutCaches } from '../../../bench/acceleration/caches.js';
import { measureSpeed, type WaySpeed } from '../../../bench/acceleration/speed.js';
import { VANILLA } from '../../../bench/acceleration/ways.js';
import { draw } from '../../../bench/draw.js';
import { openStudio } from '../../../src/calibration/open-studio.js';
import { vanillaSpec, type Studio } from '../../../src/calibration/studio.js';
import { wrapEngine, type Engine } from '../../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../../src/engine/native.js';
import { isAddonBuilt } from '../../support/server-process.js';
import { copyClassModel, writeUntrainedClassAccelerator } from '../../support/untrained-class-accelerator.js';

const speed = (...alone: number[]): WaySpeed => ({ alone, together: [], rounds: [], share: { backbone: 0, head: 0, draft: 0, verify: 0, vae: 0, other: 0 } });

describe('cachesReport', () => {
  it('is what the caches gain, within each round', () => {
    const without = { ...VANILLA, name: 'off, without the caches' };
    const report = cachesReport([[VANILLA, without]], new Map([['off', speed(1, 2, 4)], ['off, without the caches', speed(2, 5, 6)]]));
    expect(report!.speedup).toEqual({ off: { median: 2, min: 1.5, max: 2.5, rounds: 3 } });
    expect(cachesReport([], new Map())).toBeNull();
  });
});

describe.skipIf(!isAddonBuilt())('a model without its caches', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ardiff-caches-'));
  const prompts = [0, 1, 2].map((seed) => ({ prompt: String(seed), seed }));
  let engine: Engine;
  let studio: Studio;
  let uncached: Studio;

  beforeAll(async () => {
    const model = copyClassModel(join(PACKAGE_ROOT, 'train', 'golden-transdiff'), join(folder, 'model'));
    await writeUntrainedClassAccelerator(model);
    engine = wrapEngine(new (loadNativeModule().Engine)({ backend: 'cpu', dtype: 'float32', threads: 2 }));
    studio = await openStudio(engine, model, join(model, 'accelerator'), 2);
    uncached = await openUncached(engine, studio);
  }, 60_000);

  afterAll(() => {
    engine.close();
    rmSync(folder, { recursive: true });
  });

  it('draws the same bytes, and would be found out if it did not', async () => {
    await checkSameBytes(studio, uncached, prompts);
    const other: Studio = { ...uncached, model: { ...studio.model, step: async (plan) => {
      const result = await uncached.model.step(plan);
      for (const { rgb } of result.images) rgb[5]! ^= 1;
      return result;
    } } };
    await expect(checkSameBytes(studio, other, prompts)).rejects.toThrow(/without its caches the model draws another picture of "0"/);
  });

  it('runs the transformer over every pass anew', async () => {
    const rowsOf = async ({ model, maxStepTokens }: Studio): Promise<number> => {
      let rows = 0;
      const counting = { ...model, info: model.info, step: async (plan: Parameters<typeof model.step>[0]) => {
        const result = await model.step(plan);
        rows += result.backboneTokens;
        return result;
      } };
      await draw(counting, [vanillaSpec(studio, prompts[0]!, 0)], maxStepTokens);
      return rows;
    };
    const { classTokens, numPasses, passTokens } = studio.model.info.classes!;
    const guidanceRows = 2;
    const whole = Array.from({ length: numPasses }, (_, pass) => classTokens + (pass + 1) * passTokens).reduce((a, b) => a + b);
    expect(await rowsOf(uncached)).toBe(guidanceRows * whole);
    expect(await rowsOf(studio)).toBe(guidanceRows * (classTokens + numPasses * passTokens));
  });

  it('is timed as a way beside the others', async () => {
    const without = withoutCaches(VANILLA, uncached);
    const times = await measureSpeed(studio, [VANILLA, without], { rounds: 2, alone: prompts.slice(0, 1), together: prompts });
    expect([...times.keys()]).toEqual(['off', 'off, without the caches']);
    for (const { alone, together } of times.values()) expect([alone.length, together.length]).toEqual([2, 2]);
  });
});
