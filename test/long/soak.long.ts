import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';
import { randomIntegers } from '../support/specs.js';
import { StreamClient, type TextFrame } from '../support/stream-client.js';
import { until } from '../support/until.js';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 300);
const USERS = 12;
/**
 * Of a finished job, measured: about 100 KiB, for up to four pictures and partial pictures of 9 KiB each and its history. Kept
 * for ten minutes, so a soak never sees them go.
 */
const KEPT_BYTES_PER_JOB = 120 * 1024;
/** What else may grow, of all processes. */
const SLACK_BYTES = 64 * 2 ** 20;

let server: ServerProcess;

/** What became of the jobs of the whole soak. */
const seen = { accepted: 0, completed: 0, cancelled: 0, resumed: 0, refused: 0, left: 0 };

const isEnd = ({ t }: TextFrame): boolean => ['completed', 'failed', 'cancelled'].includes(t);

/** One user: asks, watches, and then waits for the end, cancels, goes away for good, or goes away and comes back. */
async function use(seed: number, until_: number): Promise<void> {
  const below = randomIntegers(seed);
  while (performance.now() < until_) {
    const client = await StreamClient.open(server.port);
    client.send({ t: 'hello', preview: {} });
    const request = { prompt: ['red apple', 'rocket', 'cat face'][below(3)], n: 1 + below(4), seed: below(1000), partial_images: below(4), num_inference_steps: 1 + below(20) };
    client.send({ t: 'generate', id: 'a', on_disconnect: { grace_ms: 2000 }, request });
    await until(() => client.all('accepted').length + client.all('error').length > 0, 'an answer');
    const accepted = client.all('accepted')[0];
    if (accepted === undefined) {
      // All places are taken: the one refusal there is here.
      expect(client.all('error')[0]).toMatchObject({ error: { code: 'queue_full' } });
      seen.refused += 1;
      client.socket.terminate();
      continue;
    }
    seen.accepted += 1;
    await new Promise((resolve) => setTimeout(resolve, below(150)));
    switch (below(4)) {
      case 0:
        client.send({ t: 'cancel', job: accepted['job'] });
        await finish(client);
        break;
      case 1:
        seen.left += 1;
        client.socket.terminate();
        break;
      case 2:
        await comeBack(client, accepted);
        break;
      default:
        await finish(client);
    }
  }
}

async function comeBack(client: StreamClient, { job, epoch }: TextFrame): Promise<void> {
  const last = client.frames.filter((frame) => frame['job'] === job).at(-1)?.['seq'];
  client.socket.terminate();
  const second = await StreamClient.open(server.port);
  second.send({ t: 'hello', preview: {}, resume: [{ job, epoch, after: last }] });
  // The last frame of the first socket may have been the end: then nothing follows.
  if (!client.frames.some(isEnd)) await finish(second);
  seen.resumed += 1;
  second.socket.terminate();
}

async function finish(client: StreamClient): Promise<void> {
  await until(() => client.frames.some(isEnd), 'the end of a job', 60_000);
  const end = client.frames.find(isEnd)!;
  expect(end.t).not.toBe('failed');
  if (end.t === 'completed') seen.completed += 1;
  else seen.cancelled += 1;
  client.socket.terminate();
}

describe.skipIf(!isAddonBuilt())(`a soak of ${SECONDS} s with random cancels, losses and returns`, () => {
  beforeAll(async () => {
    server = await ServerProcess.start(['--queue', '16', '--max-batch', '8', '--kv-sequences', '6'], 'bundled');
  });

  afterAll(() => server.stop());

  it('loses no job, leaks no block, keeps its memory', { timeout: (SECONDS + 300) * 1000 }, async () => {
    const memory: number[] = [];
    const jobs: number[] = [];
    const blocks = (): Promise<number> => server.metric('ardiff_kv_cache_blocks{state="used"}');
    const rounds = 5;
    for (let round = 0; round < rounds; round += 1) {
      const end = performance.now() + (SECONDS * 1000) / rounds;
      await Promise.all(Array.from({ length: USERS }, (_, user) => use(100 * round + user, end)));
      memory.push(await server.metric('process_resident_memory_bytes'));
      jobs.push(await server.metric('ardiff_jobs'));
    }
    // The grace of those who left ends, and with it their jobs.
    for (const gauge of ['ardiff_requests_running', 'ardiff_requests_waiting', 'ardiff_ws_connections']) await server.until(gauge, (value) => value === 0);
    await until(async () => (await blocks()) === 0, 'all blocks free');
    console.log(JSON.stringify(seen), `resident memory of all processes: ${memory.map((bytes) => Math.round(bytes / 2 ** 20)).join(', ')} MiB; jobs kept: ${jobs.join(', ')}`);
    expect(seen.completed).toBeGreaterThan(10);
    expect(seen.cancelled).toBeGreaterThan(5);
    const kept = (jobs.at(-1)! - jobs[1]!) * KEPT_BYTES_PER_JOB;
    expect(memory.at(-1)! - memory[1]!).toBeLessThan(kept + SLACK_BYTES);
    expect(await server.metric('ardiff_worker_restarts_total')).toBe(0);
    expect((await server.draw({ prompt: 'red apple', seed: 1 })).status).toBe(200);
  });
});
