import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandOf, isAddonBuilt, ServerProcess, type Answer } from '../support/server-process.js';
import { until } from '../support/until.js';

const NAMES = ['worker-0', 'worker-1'];
const BODY = { prompt: 'a cat', seed: 7, num_inference_steps: 40 };

let server: ServerProcess;

interface Readiness {
  status: string;
  device: string;
  workers: { name: string; status: string; device: { id: string; reason: string } | null }[];
}

const readiness = async (): Promise<Readiness> => JSON.parse((await server.get('/readyz')).text) as Readiness;

const pictureOf = ({ status, json }: Answer): string => {
  expect(status).toBe(200);
  return json.data[0]!.b64_json;
};

/** Equal requests at once, so that no two can be one job's; routing divides them. */
const drawSame = async (count: number): Promise<Set<string>> => new Set((await Promise.all(Array.from({ length: count }, () => server.draw(BODY)))).map(pictureOf));

const stepsOf = (worker: string): Promise<number> => server.metric(`ardiff_steps_total{model="tiny",worker="${worker}"}`);

describe.skipIf(!isAddonBuilt())('a server of two devices', () => {
  beforeAll(async () => {
    server = await ServerProcess.start(['--device', 'cpu,cpu', '--threads', '1']);
    await until(async () => (await readiness()).workers.every(({ status }) => status === 'ready'), 'both workers');
  }, 60_000);

  // In order: each finds the server as the one before has left it.
  it('says who draws on what, and divides the work: the same bytes from both', async () => {
    expect(await readiness()).toMatchObject({ status: 'ready', device: 'cpu,cpu', workers: NAMES.map((name) => ({ name, status: 'ready', device: { id: 'cpu', reason: 'asked for' } })) });
    expect((await server.get('/v1/models')).text).toContain('"devices":[{"id":"cpu"');
    expect((await drawSame(4)).size).toBe(1);
    for (const name of NAMES) {
      expect(await stepsOf(name)).toBeGreaterThan(0);
      expect(await server.metric(`ardiff_worker_up{worker="${name}"}`)).toBe(1);
      expect(await server.metric(`process_resident_memory_bytes{worker="${name}"}`)).toBeGreaterThan(0);
    }
  });

  it('draws on with one when the other is killed, to the same bytes, ready all the while', { timeout: 60_000 }, async () => {
    const [expected] = await drawSame(1);
    const victim = server.workerPids()[0]!;
    const drawing = drawSame(6);
    await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (running) => running > 0);
    await server.until('ardiff_requests_running{model="tiny",worker="worker-1"}', (running) => running > 0);
    process.kill(victim, 'SIGKILL');
    await until(() => commandOf(victim) === '', 'its end');
    expect((await readiness()).status).toBe('ready');
    expect([...(await drawing)]).toEqual([expected]);
    await server.until('ardiff_worker_restarts_total', (count) => count === 1);
    expect(await server.metric('ardiff_job_redeliveries_total')).toBeGreaterThan(0);
  });

  afterAll(async () => {
    const pids = server.workerPids();
    expect(await server.stop()).toBe(0);
    await until(() => pids.every((pid) => commandOf(pid) === ''), 'the end of both workers');
  });
});
