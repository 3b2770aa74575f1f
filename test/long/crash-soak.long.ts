import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import { ServerProcess } from '../support/server-process.js';
import { randomIntegers } from '../support/specs.js';
import { until } from '../support/until.js';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 300);
const CLIENTS = 8;
/** Of a request to be cancelled, and from one death of the worker to the next: no job meets two. */
const MAX_CANCEL_DELAY_MS = 150;
const KILL_EVERY_MS = 15_000;
/** Allocators keep what they once had; a leak of a kilobyte a request would show. */
const MAX_GROWTH_BYTES = 48 * 2 ** 20;

/** Small pictures, so that the finished jobs that are kept reach their bound in the first half. */
const BODIES = Array.from({ length: 12 }, (_, i) => ({
  prompt: ['a cat', 'a red apple', 'x'][i % 3],
  seed: i,
  n: 1 + (i % 2),
  size: i % 4 === 0 ? '128x128' : '64x64',
  num_inference_steps: 2 + i,
  guidance_scale: [1, 3][i % 2],
  output_format: 'jpeg',
}));

interface Tally {
  answered: number;
  cancelled: number;
  /** Anything else than the picture that the request gets alone. */
  wrong: string[];
}

let server: ServerProcess;

afterAll(async () => {
  await server.stop();
});

/** One client: a request after the other, three in ten of them given up at a random moment. */
async function client(seed: number, end: number, alone: readonly string[], tally: Tally): Promise<void> {
  const below = randomIntegers(seed);
  while (performance.now() < end) {
    const which = below(BODIES.length);
    const controller = new AbortController();
    if (below(10) < 3) setTimeout(() => { controller.abort(); }, below(MAX_CANCEL_DELAY_MS));
    try {
      const { status, json } = await server.draw(BODIES[which]!, controller.signal);
      const got = status === 200 ? JSON.stringify(json.data) : JSON.stringify(json);
      if (got === alone[which]) tally.answered += 1;
      else tally.wrong.push(`${status} ${got.slice(0, 200)}`);
    } catch (error) {
      if (controller.signal.aborted) tally.cancelled += 1;
      else tally.wrong.push(String(error));
    }
  }
}

async function killWorkers(end: number): Promise<number> {
  let kills = 0;
  while (performance.now() + KILL_EVERY_MS < end) {
    await sleep(KILL_EVERY_MS);
    await until(() => server.workerPid() !== null, 'a worker');
    process.kill(server.workerPid()!, 'SIGKILL');
    kills += 1;
  }
  return kills;
}

async function memory(): Promise<{ gateway: number; worker: number }> {
  const worker = await server.metric('process_resident_memory_bytes{worker="worker-0"}');
  // Without a label: the sum over both processes.
  return { worker, gateway: (await server.metric('process_resident_memory_bytes')) - worker };
}

async function soak(seconds: number, seed: number, alone: readonly string[]): Promise<{ tally: Tally; end: number; done: Promise<unknown> }> {
  const tally: Tally = { answered: 0, cancelled: 0, wrong: [] };
  const end = performance.now() + seconds * 1000;
  const done = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(seed + i, end, alone, tally)));
  return { tally, end, done };
}

it(`gives every request its own picture for ${SECONDS} s of cancels and killed workers, and loses nothing`, { timeout: (SECONDS + 120) * 1000 }, async () => {
  server = await ServerProcess.start();
  const alone: string[] = [];
  for (const body of BODIES) alone.push(JSON.stringify((await server.draw(body)).json.data));

  const rough = await soak(SECONDS / 2, 1, alone);
  const kills = await killWorkers(rough.end);
  await rough.done;
  const before = await memory();
  const calm = await soak(SECONDS / 2, 1000, alone);
  await calm.done;
  const after = await memory();

  console.log({ rough: rough.tally, calm: calm.tally, kills, before, after });
  expect([...rough.tally.wrong, ...calm.tally.wrong]).toEqual([]);
  expect(rough.tally.answered).toBeGreaterThan(SECONDS / 2);
  expect(calm.tally.cancelled).toBeGreaterThan(SECONDS / 10);
  expect(await server.metric('ardiff_worker_restarts_total{reason="exit"}')).toBe(kills);
  // No job is left, no slot, no block.
  await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (jobs) => jobs === 0);
  expect(await server.metric('ardiff_requests_waiting{model="tiny",priority="normal"}')).toBe(0);
  for (const status of ['queued', 'running']) expect(await server.metric(`ardiff_jobs{state="${status}"}`)).toBe(0);
  await server.until('ardiff_kv_cache_blocks{worker="worker-0",state="used"}', (blocks) => blocks === 0);
  expect(after.gateway - before.gateway).toBeLessThan(MAX_GROWTH_BYTES);
  expect(after.worker - before.worker).toBeLessThan(MAX_GROWTH_BYTES);
});
