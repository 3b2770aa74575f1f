import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { wrapEngine } from '../../../src/engine/engine.js';
import { localDraw } from '../../../src/cli/drawing/local.js';
import type { DrawingEvent } from '../../../src/cli/drawing/drawing.js';
import { FakeEngine } from '../../support/fake-engine.js';
import { createGateway, type Gateway } from '../../support/gateway-harness.js';
import { writeModelFolder } from '../../support/model-folder.js';
import { runCli } from '../../support/terminal.js';

let gateway: Gateway;
let url: string;
let directory: string;

beforeEach(async () => {
  gateway = await createGateway({ stepMs: 1 });
  await gateway.app.listen({ port: 0, host: '127.0.0.1' });
  url = `http://127.0.0.1:${(gateway.app.server.address() as AddressInfo).port}`;
  directory = mkdtempSync(join(tmpdir(), 'ardiff-cli-'));
});

afterEach(async () => {
  await gateway.close();
  rmSync(directory, { recursive: true });
});

const file = (name: string): string => join(directory, name);

describe('generate --url', () => {
  it('writes the picture the server draws for the same request', async () => {
    const { status, out, err } = await runCli(['generate', 'a cat', '-o', file('cat.png'), '--seed', '5', '--steps', '3', '--guidance', '2', '--size', '128x128', '--url', url]);
    expect([status, err.split('\n').at(-2)]).toEqual([0, 'drawing 100 %']);
    expect(out).toMatch(/cat\.png: \d+ bytes, seed 5, [\d.]+ s\n$/);
    const reply = await gateway.post({ prompt: 'a cat', seed: 5, num_inference_steps: 3, guidance_scale: 2, size: '128x128' });
    expect(readFileSync(file('cat.png')).toString('base64')).toBe(reply.json<{ data: { b64_json: string }[] }>().data[0]!.b64_json);
  });

  it('asks for what the server has not calibrated, and says its answer', async () => {
    const { status, err } = await runCli(['generate', 'x', '-o', file('x.png'), '--acceleration', 'relaxed', '--few-step', '1', '--drafts', '3', '--url', url]);
    expect([status, err]).toEqual([1, expect.stringContaining('This model has no calibrated few-step head')]);
    expect((await runCli(['generate', 'x', '-o', file('x.png'), '--acceleration', 'auto', '--few-step', '0', '--url', url])).status).toBe(0);
    expect((await runCli(['generate', 'x', '--few-step', '3', '--url', url])).status).toBe(2);
  });

  it('numbers several pictures, in the format of the ending', async () => {
    const { status, out } = await runCli(['generate', 'x', '-n', '3', '-o', file('a.b.jpg'), '--seed', '7', '--negative', 'y', '--quiet', '--url', url]);
    expect(status).toBe(0);
    expect(readdirSync(directory).sort()).toEqual(['a.b-0.jpg', 'a.b-1.jpg', 'a.b-2.jpg']);
    for (const i of [0, 1, 2]) {
      expect((await sharp(file(`a.b-${i}.jpg`)).metadata()).format).toBe('jpeg');
      expect(out).toMatch(new RegExp(`a\\.b-${i}\\.jpg: \\d+ bytes, seed ${7 + i}`));
    }
  });

  it('gives standard output to the picture when asked', async () => {
    const { status, out, err, bytes } = await runCli(['generate', 'x', '-o', '-', '--format', 'webp', '--url', url]);
    expect([status, out]).toEqual([0, '']);
    expect((await sharp(Buffer.concat(bytes)).metadata()).format).toBe('webp');
    expect(err).toContain('standard output: ');
  });

  it('draws a bar for a person', async () => {
    const { err } = await runCli(['generate', 'x', '-o', file('x.png'), '--url', url], { isTTY: true });
    expect(err).toMatch(/\rdrawing \[#+-*\]/);
    expect(err.endsWith('\u001b[K')).toBe(true);
  });

  it.each([
    [['--size', '7x7'], '7x7'],
    [['--model', 'other'], "The model 'other' does not exist"],
  ])('%j exits with 1 and the words of the server', async (flags, message) => {
    const { status, err } = await runCli(['generate', 'x', '-o', file('x.png'), '--url', url, ...flags]);
    expect(status).toBe(1);
    expect(err).toContain(message);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('says what failed in the middle of a stream', async () => {
    await gateway.close();
    gateway = await createGateway({ stepMs: 20 });
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    url = `http://127.0.0.1:${(gateway.app.server.address() as AddressInfo).port}`;
    const running = runCli(['generate', 'x', '-o', file('x.png'), '--url', url]);
    while (gateway.backend.queueOf('tiny').running === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    gateway.engine.failNextStep('internal');
    const { status, err } = await running;
    expect(status).toBe(1);
    expect(err).toContain('(engine_error)');
  });

  it('names a server that is not there', async () => {
    const { status, err } = await runCli(['generate', 'x', '-o', file('x.png'), '--url', 'http://127.0.0.1:9']);
    expect(status).toBe(1);
    expect(err).toContain('http://127.0.0.1:9 cannot be reached');
  });

  it('ends with 130 on Ctrl-C, and the server stops drawing', async () => {
    const interrupt = new AbortController();
    const running = runCli(['generate', 'x', '-n', '10', '--steps', '200', '--size', '128x128', '-o', file('x.png'), '--url', url], { signal: interrupt.signal });
    while (gateway.backend.queueOf('tiny').running === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    interrupt.abort();
    expect((await running).status).toBe(130);
    while (gateway.backend.queueOf('tiny').running > 0) await new Promise((resolve) => setTimeout(resolve, 2));
    expect(await gateway.metric('ardiff_cancellations_total{reason="disconnect"}')).toBe(1);
  });
});

describe('generate in this process', () => {
  it('draws what the server draws, and tells how far it is', async () => {
    const folder = writeModelFolder();
    const options = { modelDirectory: folder.directory, device: 'cpu' as const, dtype: 'auto' as const, threads: 0, kvSequences: 16, maxBatch: 16, acceleration: 'auto' as const };
    const events: DrawingEvent[] = [];
    for await (const event of localDraw(options, () => wrapEngine(new FakeEngine()))({ prompt: 'a cat', seed: 3, n: 2 }, new AbortController().signal)) events.push(event);
    const images = events.filter((event) => event.kind === 'image').sort((a, b) => a.index - b.index);
    const reply = await gateway.post({ prompt: 'a cat', seed: 3, n: 2 });
    expect(images.map(({ seed, bytes }) => ({ seed, b64_json: Buffer.from(bytes).toString('base64') }))).toEqual(reply.json<{ data: object[] }>().data);
    const fractions = events.filter((event) => event.kind === 'progress').map(({ fraction }) => fraction);
    expect(fractions.length).toBeGreaterThan(4);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBe(1);
    folder.remove();
  });

  it('stops when interrupted, and refuses what the server would', async () => {
    const folder = writeModelFolder();
    const options = { modelDirectory: folder.directory, device: 'cpu' as const, dtype: 'auto' as const, threads: 0, kvSequences: 16, maxBatch: 16, acceleration: 'auto' as const };
    const interrupt = new AbortController();
    const draw = localDraw(options, () => wrapEngine(new FakeEngine({ stepMs: 5 })));
    const consume = async (): Promise<void> => {
      for await (const event of draw({ prompt: 'x', n: 10 }, interrupt.signal)) if (event.kind === 'progress') interrupt.abort();
    };
    await expect(consume()).rejects.toMatchObject({ code: 'cancelled' });
    const refused = draw({ prompt: 'x', size: '7x7' }, new AbortController().signal)[Symbol.asyncIterator]().next();
    await expect(refused).rejects.toMatchObject({ param: 'size' });
    folder.remove();
  });
});
