import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/engine/native.js';
import { isAddonBuilt } from '../support/server-process.js';

describe.skipIf(!isAddonBuilt())('npm run quality', () => {
  // By the model's own sampler, whatever the folder's accelerator made the server's default.
  it.each(['nextstep-emoji64', 'transdiff-emoji64'])('finds what was asked for in the pictures of the bundled %s', { timeout: 120_000 }, (model) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(PACKAGE_ROOT, 'dist', 'cli', 'quality.js'), '--model', join(PACKAGE_ROOT, 'models', model), '--concepts', '100'], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(Number(/adherence ([\d.]+) .*100 concepts/.exec(stdout)?.[1])).toBeGreaterThan(0.95);
  });
});
