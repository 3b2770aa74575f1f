import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess, type Answer } from '../support/server-process.js';
import { parseSse } from '../support/sse.js';
import { StreamClient } from '../support/stream-client.js';

/** Mixed classes (some equal), seeds, timesteps and guidance; every second is for the model that draws token by token. */
const BODIES = Array.from({ length: 12 }, (_, i) =>
  i % 2 === 0
    ? { model: 'zoo', prompt: ['ant', 'Bee', '2', 'dog'][(i / 2) % 4]!, seed: i * 1_000_003, num_inference_steps: 9 + 7 * (i % 3), guidance_scale: [1, 1.5, 3][(i / 2) % 3] }
    : { model: 'tiny', prompt: `a cat ${i}`, seed: i, num_inference_steps: 12, size: '128x128' },
);

const picture = ({ status, json }: Answer): string => {
  expect(status).toBe(200);
  return json.data[0]!.b64_json;
};

/** One server for all: what a test leaves behind, the others see. */
let server: ServerProcess;

const together = async (): Promise<string[]> => (await Promise.all(BODIES.map((body) => server.draw(body)))).map(picture);

const partials = async (body: object): Promise<string[]> => {
  const { text } = await server.post(body);
  return parseSse(text).events.map(({ data }) => (data as { b64_json: string }).b64_json);
};

describe.skipIf(!isAddonBuilt())('a server of both families', () => {
  beforeAll(async () => {
    server = await ServerProcess.start(['--backend', 'cpu', '--dtype', 'float32', '--threads', '2'], 'families');
  }, 60_000);

  afterAll(async () => {
    await server.stop();
  });

  it('draws with requests for both in flight what each draws alone', { timeout: 60_000 }, async () => {
    const alone: string[] = [];
    for (const body of BODIES) alone.push(picture(await server.draw(body)));
    expect(new Set(alone).size).toBe(BODIES.length);
    const crowd = together();
    const [zoo, tiny] = ['zoo', 'tiny'].map((model) => server.until(`ardiff_requests_running{model="${model}"}`, (running) => running > 1));
    await Promise.all([zoo, tiny]);
    expect(await crowd).toEqual(alone);
    for (const model of ['zoo', 'tiny']) expect(await server.metric(`ardiff_images_total{model="${model}"}`)).toBe(BODIES.length);
  });

  it('draws pictures that depend on class, seed, guidance and timesteps, and on nothing else', { timeout: 30_000 }, async () => {
    const base = { model: 'zoo', prompt: 'cat', seed: 5, num_inference_steps: 4 };
    const variants = [base, { ...base, prompt: 'dog' }, { ...base, seed: 6 }, { ...base, guidance_scale: 4 }, { ...base, num_inference_steps: 5 }];
    const pictures = (await Promise.all(variants.map((body) => server.draw(body)))).map(picture);
    expect(new Set(pictures).size).toBe(variants.length);
    expect(picture(await server.draw({ ...base, prompt: '2' }))).toBe(pictures[0]);
    const { width, height } = await sharp(Buffer.from(pictures[0]!, 'base64')).metadata();
    expect([width, height]).toEqual([16, 16]);
    expect((await server.draw({ ...base, prompt: 'a cat' })).json.error).toMatchObject({ code: 'invalid_value', message: expect.stringContaining('"cat"') });
  });

  it('shows its passes on the way: whole pictures, the same whoever shares the batch', { timeout: 30_000 }, async () => {
    const body = { model: 'zoo', prompt: 'eel', seed: 3, stream: true, partial_images: 3 };
    const alone = await partials(body);
    // Three passes and the picture, all different.
    expect(alone).toHaveLength(4);
    expect(new Set(alone).size).toBe(4);
    const crowd = together();
    expect(await partials(body)).toEqual(alone);
    await crowd;
    expect(picture(await server.draw({ model: 'zoo', prompt: 'eel', seed: 3 }))).toBe(alone[3]);
  });

  it('shows them on a socket too, the newest to who is slow, and draws the same picture', { timeout: 30_000 }, async () => {
    const body = { model: 'zoo', prompt: 'eel', seed: 3, partial_images: 3, num_inference_steps: 100 };
    const client = await StreamClient.open(server.port);
    client.send({ t: 'hello', preview: { min_interval_ms: 0 }, window: 8 });
    client.send({ t: 'generate', id: 'a', request: body });
    await client.frame('completed');
    const shown = client.pictures.map(({ bytes }) => bytes.toString('base64'));
    const final = client.pictures.map(({ meta }) => meta['final']);
    await client.close();
    const all = await partials({ ...body, stream: true });
    expect(shown).toEqual(all.filter((one) => shown.includes(one)));
    expect(shown.at(-1)).toBe(all.at(-1));
    expect(final).toEqual([...shown.slice(1).map(() => false), true]);
    expect(shown.length).toBeGreaterThan(1);
  });

  it('frees the place of a client that went away', { timeout: 30_000 }, async () => {
    const gone = new AbortController();
    const lost = server.draw({ model: 'zoo', prompt: 'ant', num_inference_steps: 200, n: 10 }, gone.signal).catch(() => null);
    await server.until('ardiff_requests_running{model="zoo"}', (running) => running === 1);
    gone.abort();
    await lost;
    await server.until('ardiff_batch_slots{model="zoo",state="used"}', (used) => used === 0);
    expect(await server.metric('ardiff_kv_cache_blocks{model="zoo",state="used"}')).toBe(0);
    expect(await server.metric('ardiff_cancellations_total{reason="disconnect"}')).toBe(1);
  });
});
