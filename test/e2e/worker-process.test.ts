import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import { writeModelFolder } from '../support/model-folder.js';
import { commandOf, isAddonBuilt, runToExit, ServerProcess, type Answer } from '../support/server-process.js';
import { parseSse, type SseEvent } from '../support/sse.js';
import { writeUntrainedWeights } from '../support/untrained-accelerator.js';
import { until } from '../support/until.js';

let server: ServerProcess;

afterEach(async () => {
  // Undefined after a test that starts no server.
  await (server as ServerProcess | undefined)?.stop();
});

/** Four requests that differ in everything a request can differ in; long enough to be hit in the middle. */
const BODIES = [
  { prompt: 'a cat', seed: 1, num_inference_steps: 200 },
  { prompt: 'a red apple', seed: 2, num_inference_steps: 199, guidance_scale: 1 },
  { prompt: 'a cat', seed: 3, num_inference_steps: 190, guidance_scale: 7.5, negative_prompt: 'ugly' },
  { prompt: 'x', seed: 4, num_inference_steps: 198, n: 3, output_format: 'webp' },
];

const pictures = ({ status, json }: Answer): string[] => {
  expect(status).toBe(200);
  return json.data.map(({ b64_json: base64 }) => base64);
};

const drawAll = async (): Promise<string[][]> => (await Promise.all(BODIES.map((body) => server.draw(body)))).map(pictures);

async function worker(): Promise<number> {
  await until(() => server.workerPid() !== null, 'a worker');
  return server.workerPid()!;
}

/** Ends or stops the worker while it draws all four. */
async function hitMidPicture(signal: NodeJS.Signals): Promise<void> {
  const before = await server.metric('ardiff_image_tokens_total{model="tiny"}');
  await server.until('ardiff_image_tokens_total{model="tiny"}', (tokens) => tokens >= before + 20);
  process.kill(await worker(), signal);
}

async function follow(body: object): Promise<SseEvent[]> {
  const headers = { 'content-type': 'application/json' };
  const reply = await fetch(`http://127.0.0.1:${server.port}/v1/images/generations`, { method: 'POST', headers, body: JSON.stringify(body) });
  expect(reply.status).toBe(200);
  return parseSse(await reply.text()).events;
}

describe.skipIf(!isAddonBuilt())('a worker process that cannot start', () => {
  it('ends the server, which says why', async () => {
    const folder = writeModelFolder();
    const { code, errors } = await runToExit(['--model', folder.directory]);
    folder.remove();
    expect(code).toBe(1);
    expect(errors).toMatch(/^fast-ardiff: config\.json: .* is missing \(invalid_model\)$/m);
  });

  // Not where there is one: then it would start.
  it.skipIf(isAddonBuilt() && loadNativeModule().cudaDevices().devices.length > 0)('for a device that is named and missing ends the server; nothing falls back', async () => {
    const { code, errors } = await runToExit(['--device', 'cuda:0']);
    expect(code).toBe(1);
    expect(errors).toMatch(/^fast-ardiff: backend cuda:0(: no CUDA (driver on this machine|device)| is not part of this build) \(invalid_argument\)$/m);
  });

  it('because it has an accelerator that nobody calibrated does start, and says what is not used', { timeout: 60_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ardiff-uncalibrated-'));
    cpSync(join(PACKAGE_ROOT, 'test', 'golden', 'nextstep-tiny'), folder, { recursive: true });
    await writeUntrainedWeights(folder);
    const { code, errors, log } = await runToExit(['--model', folder], 'SIGTERM');
    rmSync(folder, { recursive: true });
    expect([code, errors]).toEqual([0, '']);
    expect(log).toMatch(/"level":40.*accelerator has no accelerator\.json, so nothing of it is used.*npm run calibrate/);
  });

  it('because it is still loading does not delay SIGTERM', async () => {
    expect(await runToExit([], 'SIGTERM')).toMatchObject({ code: 0, errors: '' });
  });

  it('in the place of one that died leaves the server up, with an answer for everybody', async () => {
    server = await ServerProcess.start();
    const waiting = server.draw({ prompt: 'a cat', n: 10, num_inference_steps: 200 });
    await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (running) => running === 1);
    rmSync(join(server.modelDirectory, 'model.safetensors'));
    process.kill(await worker(), 'SIGKILL');
    for (const answer of [await waiting, await server.draw({ prompt: 'a cat' })]) {
      expect([answer.status, answer.json.error.code]).toEqual([503, 'model_unavailable']);
    }
    expect((await server.get('/readyz')).text).toContain('failed');
    expect((await server.get('/healthz')).status).toBe(200);
    await server.stop();
    expect(await server.exited).toBe(0);
  });
});

describe.skipIf(!isAddonBuilt())('the worker process', () => {
  it('costs nobody anything when it is killed mid-picture: the answers are those of an undisturbed run', { timeout: 120_000 }, async () => {
    server = await ServerProcess.start();
    const undisturbed = await drawAll();
    const first = await worker();
    const drawing = drawAll();
    await hitMidPicture('SIGKILL');
    expect(await drawing).toEqual(undisturbed);
    expect(await worker()).not.toBe(first);
    expect(await server.metric('ardiff_worker_restarts_total{reason="exit"}')).toBe(1);
    expect(await server.metric('ardiff_job_redeliveries_total')).toBe(BODIES.length);
    expect(await server.metric('ardiff_worker_up{worker="worker-0"}')).toBe(1);
    // The new worker has no memory of the old one's jobs.
    expect(await server.metric('ardiff_kv_cache_blocks{worker="worker-0",state="used"}')).toBe(0);
    expect(await drawAll()).toEqual(undisturbed);
  });

  it('is replaced when it hangs, and its pictures come out the same', { timeout: 120_000 }, async () => {
    server = await ServerProcess.start(['--worker-timeout', '8']);
    const undisturbed = await drawAll();
    const drawing = drawAll();
    await hitMidPicture('SIGSTOP');
    expect(await drawing).toEqual(undisturbed);
    expect(await server.metric('ardiff_worker_restarts_total{reason="hang"}')).toBe(1);
  });

  it('that dies twice under a job ends the job with worker_lost, and draws the next one', { timeout: 120_000 }, async () => {
    server = await ServerProcess.start();
    const fatal = server.draw({ prompt: 'a cat', n: 10, num_inference_steps: 200 });
    for (const restarts of [1, 2]) {
      await hitMidPicture('SIGKILL');
      await server.until('ardiff_worker_restarts_total{reason="exit"}', (count) => count === restarts);
    }
    const { status, headers, json } = await fatal;
    expect([status, json.error.code, headers['x-should-retry']]).toEqual([500, 'worker_lost', 'false']);
    expect((await server.draw({ prompt: 'a cat' })).status).toBe(200);
  });

  it('shows watchers no step back when it is replaced', { timeout: 120_000 }, async () => {
    server = await ServerProcess.start();
    const body = { prompt: 'a cat', seed: 5, num_inference_steps: 150, n: 2, stream: true, partial_images: 3, stream_options: { include_progress: true } };
    const undisturbed = await follow(body);
    const watching = follow(body);
    await hitMidPicture('SIGKILL');
    const events = await watching;
    expect(await server.metric('ardiff_job_redeliveries_total')).toBe(1);
    const fractions = events.flatMap(({ data: { fraction } }) => (typeof fraction === 'number' ? [fraction] : []));
    expect(fractions.length).toBeGreaterThan(5);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    // Each partial picture and each picture once, with the bytes of an undisturbed run.
    const shown = (seen: SseEvent[]): string[] => seen.filter(({ data }) => 'b64_json' in data).map(({ event, data }) => JSON.stringify([event, data['index'], data['partial_image_index'], data['b64_json']]));
    expect(shown(events).sort()).toEqual(shown(undisturbed).sort());
    expect(shown(events)).toHaveLength(2 * 3 + 2);
  });

  it('takes new requests while it is replaced', async () => {
    server = await ServerProcess.start();
    process.kill(await worker(), 'SIGKILL');
    await until(() => server.workerPid() === null, 'no worker');
    expect((await server.draw({ prompt: 'a cat' })).status).toBe(200);
  });

  it('is not told of by a client that went away before it died', async () => {
    server = await ServerProcess.start();
    const controller = new AbortController();
    const lost = server.draw({ prompt: 'a cat', n: 10, num_inference_steps: 200 }, controller.signal).catch(() => undefined);
    await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (running) => running === 1);
    controller.abort();
    await lost;
    await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (running) => running === 0);
    process.kill(await worker(), 'SIGKILL');
    await server.until('ardiff_worker_restarts_total{reason="exit"}', (count) => count === 1);
    expect((await server.draw({ prompt: 'a cat' })).status).toBe(200);
    expect(await server.metric('ardiff_job_redeliveries_total')).toBe(0);
  });

  it('ends with the server, also when that is killed', async () => {
    server = await ServerProcess.start();
    const pid = await worker();
    const lost = server.draw({ prompt: 'a cat', n: 10, num_inference_steps: 200 }).catch((error: unknown) => error);
    await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (running) => running === 1);
    server.signal('SIGKILL');
    expect(await lost).toBeInstanceOf(Error);
    await until(() => commandOf(pid) === '', 'the end of the worker');
  });

  it('leaves Ctrl-C to the server, which drains', async () => {
    server = await ServerProcess.start();
    const running = server.draw({ prompt: 'a cat', n: 8, num_inference_steps: 100 });
    await server.until('ardiff_requests_running{model="tiny",worker="worker-0"}', (value) => value === 1);
    const pid = await worker();
    process.kill(pid, 'SIGINT');
    server.signal('SIGINT');
    expect((await running).json.data).toHaveLength(8);
    expect(await server.exited).toBe(0);
    expect(commandOf(pid)).toBe('');
  });

  it('is not there with --in-process, and the pictures are the same', async () => {
    server = await ServerProcess.start();
    const [there] = pictures(await server.draw(BODIES[0]!));
    await server.stop();
    server = await ServerProcess.start(['--in-process']);
    expect(server.workerPid()).toBeNull();
    expect(pictures(await server.draw(BODIES[0]!))).toEqual([there]);
  });
});
