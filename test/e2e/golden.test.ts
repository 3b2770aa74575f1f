import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readGoldenFolder } from '../../src/cli/golden/manifest.js';
import type { GoldenOutcome } from '../../src/cli/golden/judge.js';
import { runGoldenFolder } from '../../src/cli/golden/run-folder.js';
import { wrapEngine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import { isAddonBuilt } from '../support/server-process.js';

describe.skipIf(!isAddonBuilt())('golden cases through the addon', () => {
  const folders = ['nextstep-tiny', 'transdiff-mrar', 'transdiff-one-pass'];
  const cases = folders.flatMap((name) => (['reference', 'cpu'] as const).map((backend) => ({ name, backend })));
  it.each(cases)('$name on the $backend backend', { timeout: 60_000 }, async ({ name, backend }) => {
    const { Engine } = loadNativeModule();
    const engine = wrapEngine(new Engine({ backend, dtype: 'float32', threads: 2 }));
    const folder = readGoldenFolder(join(PACKAGE_ROOT, 'test', 'golden', name));
    const outcomes: GoldenOutcome[] = [];
    await runGoldenFolder(engine, folder, (outcome) => outcomes.push(outcome));
    engine.close();
    expect(outcomes.length).toBeGreaterThanOrEqual(folder.cases.length);
    expect(outcomes.filter((outcome) => !outcome.passed)).toEqual([]);
  });
});
