import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/engine/native.js';

let out: string;

beforeEach(() => { out = mkdtempSync(join(tmpdir(), 'ardiff-serve-check-')); });
afterEach(() => { rmSync(out, { recursive: true }); });

const check = (...flags: string[]): { status: number | null; report: string; errors: string } => {
  const { status, stderr } = spawnSync(process.execPath, [join(PACKAGE_ROOT, 'scripts', 'gpu-serve-check.mjs'), '--out', out, '--seconds', '0.2', ...flags], { encoding: 'utf8' });
  return { status, report: readFileSync(join(out, 'report.md'), 'utf8'), errors: stderr };
};

/** Where there is no GPU: what it says of a processor, and of a device that is not there. */
describe('scripts/gpu-serve-check.mjs', () => {
  it('passes a server on the processor against itself, with drafts in every mode that has any', () => {
    const { status, report } = check('--device', 'cpu', '--compare', 'cpu');
    expect([status, report.match(/\*\*failed\*\*.*/g)]).toEqual([0, null]);
    expect(report.match(/drafts taken/g)).toHaveLength(6);
    expect(report).toMatch(/\| own sampler \| 16 \| .* ms\) \| .* ms\) \| [\d.]+x \|/);
    expect(report).toContain('31 passed, 0 failed');
  });

  it('fails where the device is not there, with what the server says', () => {
    const { status, report, errors } = check('--device', 'cuda:63', '--compare', 'none');
    expect(status).toBe(1);
    expect(report).toContain('| cuda:63: the server gets ready | **failed** |');
    expect(errors).toMatch(/fast-ardiff: .*cuda:63|backend cuda:63/);
  });
});
