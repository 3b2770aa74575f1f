import { on, once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { alertRules, dashboardExpressions, withVariables } from '../support/monitoring.js';
import { hasPrometheus, Prometheus } from '../support/prometheus.js';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';

/** Long enough for several scrapes at 1 s, also on a busy machine. */
const LOAD_MS = 25_000;
const RATE_INTERVAL = '20s';

let server: ServerProcess;
let prometheus: Prometheus;

const ready = isAddonBuilt() && hasPrometheus();
if (!hasPrometheus()) console.error('\n*** SKIPPED: prometheus is not installed (Debian: prometheus) ***\n');

/** Everything that a panel shows: pictures, wrong requests, refusals, clients that leave. */
async function load(): Promise<void> {
  const end = performance.now() + LOAD_MS;
  for (let round = 0; performance.now() < end; round += 1) {
    const burst = Array.from({ length: 8 }, (_, i) => server.draw({ prompt: `cat ${i % 3}`, seed: round, n: 1 + (i % 2), output_format: (['png', 'jpeg'] as const)[i % 2] }));
    const controller = new AbortController();
    await Promise.all([...burst, server.draw({ prompt: '' }), server.get('/v1/models')]);
    // Alone, so that it is in the batch when it leaves.
    const left = server.draw({ prompt: 'gone', n: 10, num_inference_steps: 200 }, controller.signal).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 100));
    controller.abort();
    await left;
    await watch(`dog ${round}`);
    await stream({ prompt: `cat ${round}`, num_inference_steps: 20, stream: true, partial_images: 2 });
  }
}

async function stream(body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const reply = await fetch(`http://127.0.0.1:${server.port}/v1/images/generations`, { method: 'POST', headers, body: JSON.stringify(body) });
  expect(await reply.text()).toContain('image_generation.completed');
}

/** A picture over a socket, with previews; and a second socket that comes back for it. */
async function watch(prompt: string): Promise<void> {
  const frames = await socket([
    { t: 'hello', preview: {} },
    { t: 'generate', id: 'a', request: { prompt, num_inference_steps: 20, partial_images: 2 } },
  ]);
  const { job, epoch } = frames.find(({ t }) => t === 'accepted')!;
  await socket([{ t: 'hello', resume: [{ job, epoch, after: 1 }] }]);
}

/** Sends the frames and collects the answers up to the end of the job. */
async function socket(send: readonly object[]): Promise<Record<string, unknown>[]> {
  const client = new WebSocket(`ws://127.0.0.1:${server.port}/v1/stream`, 'ardiff.v1');
  const frames: Record<string, unknown>[] = [];
  await once(client, 'open');
  for (const frame of send) client.send(JSON.stringify(frame));
  for await (const [data, isBinary] of on(client, 'message') as AsyncIterable<[Buffer, boolean]>) {
    if (isBinary) continue;
    const frame = JSON.parse(data.toString()) as Record<string, unknown>;
    frames.push(frame);
    expect(frame.t).not.toBe('error');
    if (frame.t === 'completed') break;
  }
  client.close();
  return frames;
}

describe.skipIf(!ready)('a real Prometheus on a real server', () => {
  beforeAll(async () => {
    server = await ServerProcess.start(['--queue', '4', '--max-batch', '2']);
    prometheus = await Prometheus.start(`127.0.0.1:${server.port}`);
    await load();
  });

  afterAll(async () => {
    await prometheus.stop();
    await server.stop();
  });

  it('reads every series without complaint', async () => {
    expect((await prometheus.query('up{job="ardiff"}')).map(({ value }) => value[1])).toEqual(['1']);
    const stored = await prometheus.query('scrape_samples_scraped{job="ardiff"}');
    expect(Number(stored[0]!.value[1])).toBeGreaterThan(300);
  });

  it.each(dashboardExpressions())('$where shows something: $expr', async ({ expr }) => {
    const query = withVariables(expr, RATE_INTERVAL);
    const series = await prometheus.query(query);
    // A filter that nothing passes is a good sign: `> 0` of the annotation of restarts.
    if (!/[<>]/.test(expr.replaceAll(/=~|!~|>=/g, ''))) expect(series.length).toBeGreaterThan(0);
    // Quantiles of what did not happen in the interval (a route nobody asked) are NaN; of something they are not.
    if (series.length > 0) expect(series.some(({ value }) => value[1] !== 'NaN')).toBe(true);
  });

  it.each(alertRules())('$alert has something to judge', async ({ alert, expr }) => {
    // Without its threshold an alert must find series, or it can never ring.
    const watched = expr.replace(/\s*(==|>)\s*[\d.]+\s*$/, '');
    expect(watched).not.toBe(expr);
    expect((await prometheus.query(watched)).length).toBeGreaterThan(0);
    const rule = (await prometheus.rules()).find(({ name }) => name === alert);
    expect(rule).toMatchObject({ health: 'ok' });
  });

  it('rings none of the alerts that say the server is broken', async () => {
    const quiet = ['ArdiffDown', 'ArdiffWorkerDown', 'ArdiffWorkerRestarts', 'ArdiffErrors', 'ArdiffJobStuck', 'ArdiffCancelLatency'];
    const rules = await prometheus.rules();
    for (const name of quiet) expect(rules.find((rule) => rule.name === name)).toMatchObject({ name, state: 'inactive' });
  });
});
