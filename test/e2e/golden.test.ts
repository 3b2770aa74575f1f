import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readGoldenFolder } from '../../src/cli/golden/manifest.js';
import { runGoldenFolder, type GoldenOutcome } from '../../src/cli/golden/run-folder.js';
import { wrapEngine } from '../../src/engine/engine.js';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import { isAddonBuilt } from '../support/server-process.js';

describe.skipIf(!isAddonBuilt())('golden cases through the addon', () => {
  it.each(['reference', 'cpu'] as const)('nextstep-tiny on the %s backend', { timeout: 60_000 }, async (backend) => {
    const { Engine } = loadNativeModule();
    const engine = wrapEngine(new Engine({ backend, dtype: 'float32', threads: 2 }));
    const folder = readGoldenFolder(join(PACKAGE_ROOT, 'test', 'golden', 'nextstep-tiny'));
    const outcomes: GoldenOutcome[] = [];
    await runGoldenFolder(engine, folder, (outcome) => outcomes.push(outcome));
    engine.close();
    expect(outcomes.length).toBeGreaterThanOrEqual(folder.cases.length);
    expect(outcomes.filter((outcome) => !outcome.passed)).toEqual([]);
  });
});
