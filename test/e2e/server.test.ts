import { once } from 'node:events';
import { connect } from 'node:net';
import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { cpuComputesIn, DTYPES } from '../support/cpu-dtypes.js';
import { isAddonBuilt, ServerProcess, type Answer } from '../support/server-process.js';

let server: ServerProcess;

afterEach(async () => {
  await server.stop();
});

/** Mixed prompts (some equal), seeds, timesteps and guidance, with and without the unconditional row. */
const BODIES = Array.from({ length: 16 }, (_, i) => ({
  prompt: ['a cat', 'a red apple on a table', 'x', 'two birds'][i % 4]!.repeat(1 + (i % 3)),
  seed: i * 1_000_003,
  // Long enough that the sixteen are in the engine at once, also on a fast machine.
  num_inference_steps: 24 + 6 * (i % 4),
  guidance_scale: [1, 2.5, 7.5][i % 3],
  ...(i % 6 === 1 ? { negative_prompt: 'ugly' } : {}),
  size: i % 5 === 0 ? '64x64' : '128x128',
}));

const picture = ({ status, json }: Answer): string => {
  expect(status).toBe(200);
  return json.data[0]!.b64_json;
};

async function drawAlone(): Promise<string[]> {
  const pictures: string[] = [];
  for (const body of BODIES) pictures.push(picture(await server.draw(body)));
  return pictures;
}

const drawTogether = async (): Promise<string[]> => (await Promise.all(BODIES.map((body) => server.draw(body)))).map(picture);

describe.skipIf(!isAddonBuilt())('a real server', () => {
  it.for(DTYPES)('draws the same bytes alone, among 16, and after preemption (cpu, %s)', { timeout: 120_000 }, async (dtype, { skip }) => {
    skip(!cpuComputesIn(dtype), 'this processor does not multiply bfloat16');
    const flags = ['--backend', 'cpu', '--dtype', dtype, '--threads', '2'];
    server = await ServerProcess.start(flags);
    const alone = await drawAlone();
    // All different: otherwise equality below would say nothing.
    expect(new Set(alone).size).toBe(BODIES.length);
    expect(await drawTogether()).toEqual(alone);
    expect(await server.metric('ardiff_preemptions_total')).toBe(0);
    await server.stop();

    server = await ServerProcess.start([...flags, '--kv-sequences', '3']);
    expect(await drawTogether()).toEqual(alone);
    expect(await server.metric('ardiff_preemptions_total')).toBeGreaterThan(0);
    expect(await server.metric('ardiff_kv_cache_blocks{state="used"}')).toBe(0);
  });

  it('draws every picture of a request as its seed alone would', async () => {
    server = await ServerProcess.start();
    const many = await server.draw({ prompt: 'a cat', n: 4, seed: 7 });
    expect(many.json.data.map(({ seed }) => seed)).toEqual([7, 8, 9, 10]);
    for (const { seed, b64_json: base64 } of many.json.data) expect(picture(await server.draw({ prompt: 'a cat', seed }))).toBe(base64);
  });

  it('draws with the first bundled model when none is named', async () => {
    server = await ServerProcess.start([], 'bundled');
    const { status, json } = await server.draw({ prompt: 'red apple', seed: 1 });
    expect(status).toBe(200);
    const { channels } = await sharp(Buffer.from(json.data[0]!.b64_json, 'base64')).stats();
    // A picture and not a flat field: every colour varies.
    for (const { stdev } of channels) expect(stdev).toBeGreaterThan(5);
  });

  it('frees slot and blocks when the client goes away', async () => {
    server = await ServerProcess.start();
    const controller = new AbortController();
    const lost = server.draw({ prompt: 'a cat', n: 10, num_inference_steps: 200 }, controller.signal).catch((error: unknown) => error);
    await server.until('ardiff_requests_running{model="tiny"}', (running) => running === 1);
    controller.abort();
    expect(await lost).toBeInstanceOf(Error);
    await server.until('ardiff_requests_running{model="tiny"}', (running) => running === 0);
    await server.until('ardiff_kv_cache_blocks{state="used"}', (blocks) => blocks === 0);
    expect(await server.metric('ardiff_cancellations_total{reason="disconnect",phase="running"}')).toBe(1);
    expect(await server.metric('ardiff_images_total{model="tiny",format="png"}')).toBe(0);
    expect((await server.draw({ prompt: 'a cat' })).status).toBe(200);
  });

  it('drains on SIGTERM: finishes what runs, takes nothing new, exits 0', async () => {
    server = await ServerProcess.start();
    const running = server.draw({ prompt: 'a cat', n: 8, num_inference_steps: 200 });
    await server.until('ardiff_requests_running{model="tiny"}', (value) => value === 1);
    server.signal('SIGTERM');
    for (;;) {
      const { status, json } = await server.draw({ prompt: 'late' });
      if (status === 503) {
        expect(json.error.code).toBe('draining');
        break;
      }
    }
    expect((await server.get('/readyz')).status).toBe(503);
    expect((await running).json.data).toHaveLength(8);
    expect(await server.exited).toBe(0);
  });

  it('does not wait on SIGTERM for sockets that never asked anything', async () => {
    server = await ServerProcess.start();
    const idle = connect(server.port, '127.0.0.1');
    idle.on('error', () => undefined);
    await once(idle, 'connect');
    const begin = performance.now();
    server.signal('SIGTERM');
    expect(await server.exited).toBe(0);
    expect(performance.now() - begin).toBeLessThan(20_000);
    idle.destroy();
  });

  it('refuses when the queue is full, with a place for everyone admitted', async () => {
    server = await ServerProcess.start(['--queue', '3', '--max-batch', '1']);
    const answers = await Promise.all(Array.from({ length: 12 }, (_, seed) => server.draw({ prompt: 'a cat', seed, num_inference_steps: 20 })));
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(3);
  });
});
