import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PACKAGE_ROOT } from '../../src/engine/native.js';
import { isAddonBuilt } from '../support/server-process.js';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'ardiff-cli-'));
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

const start = (...args: string[]) => spawn(process.execPath, ['--import', 'tsx', join(PACKAGE_ROOT, 'src', 'cli', 'fast-ardiff.ts'), ...args], { cwd: PACKAGE_ROOT, stdio: ['ignore', 'pipe', 'pipe'] });

async function run(...args: string[]): Promise<{ status: number | null; out: string; err: string }> {
  const child = start(...args);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => (out += String(chunk)));
  child.stderr.on('data', (chunk) => (err += String(chunk)));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, out, err };
}

describe.skipIf(!isAddonBuilt())('the executable', () => {
  it('draws with the bundled model, here and on its own server, to the same bytes', { timeout: 120_000 }, async () => {
    const here = join(directory, 'here.png');
    const { status, out, err } = await run('generate', 'red apple', '-o', here, '--seed', '7');
    expect([status, err.trimEnd().split('\n').at(-1)]).toEqual([0, 'drawing 100 %']);
    expect(out).toContain('here.png: ');
    const { channels } = await sharp(here).stats();
    // A picture and not a flat field: every colour varies.
    for (const { stdev } of channels) expect(stdev).toBeGreaterThan(5);

    const server = start('serve', '--port', '0', '--host', '127.0.0.1');
    try {
      const url = await listening(server.stdout);
      while (!(await fetch(`${url}/readyz`)).ok) await new Promise((resolve) => setTimeout(resolve, 20));
      const there = join(directory, 'there.png');
      expect(await run('generate', 'red apple', '-o', there, '--seed', '7', '--url', url)).toMatchObject({ status: 0 });
      expect(readFileSync(there).equals(readFileSync(here))).toBe(true);
    } finally {
      server.kill('SIGTERM');
    }
    const [code] = (await once(server, 'exit')) as [number | null];
    expect(code).toBe(0);
  });

  it('ends with 2 for a wrong flag of any command', async () => {
    expect(await run('generate', 'x', '--steps', '0')).toMatchObject({ status: 2, err: expect.stringContaining('--steps') as string });
    expect(await run('serve', '--port', 'http')).toMatchObject({ status: 2, err: expect.stringContaining('--port') as string });
  });
});

async function listening(log: AsyncIterable<unknown>): Promise<string> {
  let text = '';
  for await (const chunk of log) {
    text += String(chunk);
    const match = /listening at (http:\/\/127\.0\.0\.1:\d+)/.exec(text);
    if (match !== null) return match[1]!;
  }
  throw new Error(`the server ended: ${text}`);
}
