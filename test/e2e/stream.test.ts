import OpenAI from 'openai';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';
import { parseSse } from '../support/sse.js';

let server: ServerProcess;
let client: OpenAI;

const RUNNING = 'ardiff_requests_running{model="tiny",worker="worker-0"}';

describe.skipIf(!isAddonBuilt())('a real server, streaming', () => {
  beforeAll(async () => {
    server = await ServerProcess.start();
    client = new OpenAI({ apiKey: 'any', baseURL: `http://127.0.0.1:${server.port}/v1`, maxRetries: 0 });
  });

  afterAll(() => server.stop());

  it('draws the same bytes with partial images and progress as without, and shows rows from top to bottom', async () => {
    const body = { prompt: 'a cat', n: 2, size: '128x128', seed: 11, num_inference_steps: 20 };
    const plain = await client.images.generate(body as never);
    const extras = { stream_options: { include_progress: true } };
    const stream = await client.images.generate({ ...body, stream: true, partial_images: 3, ...extras } as OpenAI.Images.ImageGenerateParamsStreaming);
    const partials = new Map<number, string[]>();
    const finals: string[] = [];
    const fractions: number[] = [];
    for await (const event of stream) {
      const { index, fraction } = event as { index?: number; fraction?: number };
      if (event.type === 'image_generation.partial_image') partials.set(index!, [...(partials.get(index!) ?? []), event.b64_json]);
      else if (event.type === 'image_generation.completed') finals[index!] = event.b64_json;
      else fractions.push(fraction!);
    }
    expect(finals).toEqual(plain.data!.map((image) => image.b64_json));
    expect([...fractions].sort((a, b) => a - b)).toEqual(fractions);
    expect(fractions.at(-1)).toBe(1);
    expect([...partials.keys()].sort()).toEqual([0, 1]);
    for (const shown of partials.values()) {
      expect(shown).toHaveLength(3);
      const undrawn = await Promise.all(shown.map(greyRows));
      // 8 token rows of 16 pixels: partial i of 3 after 2, 4 and 6 of them.
      expect(undrawn).toEqual([96, 64, 32]);
    }
  });

  it('frees the slot when a reader leaves in the middle', async () => {
    const stream = await client.images.generate({ prompt: 'x', size: '128x128', n: 4, stream: true, partial_images: 3, num_inference_steps: 200 } as never);
    for await (const event of stream as unknown as AsyncIterable<{ type: string }>) {
      expect(event.type).toBe('image_generation.partial_image');
      break;
    }
    await server.until(RUNNING, (value) => value === 0);
    expect(await server.metric('ardiff_cancellations_total{reason="disconnect",phase="running"}')).toBe(1);
  });

  it('keeps a job for whoever asks later, and follows it from any point', async () => {
    const draw = { prompt: 'y', seed: 3, partial_images: 1, num_inference_steps: 20 };
    const job = await client.post<{ id: string }>('/images/generations', { body: draw, headers: { Prefer: 'respond-async' } });
    const read = async (headers: Record<string, string> = {}) =>
      parseSse(await (await fetch(`http://127.0.0.1:${server.port}/v1/jobs/${job.id}/events`, { headers })).text()).events;
    const events = await read();
    expect(events[0]!.event).toBe('queued');
    expect(events.at(-1)!.event).toBe('completed');
    expect(events.filter(({ event }) => event === 'preview')).toHaveLength(1);
    const image = events.find(({ event }) => event === 'image')!;
    const rest = await read({ 'last-event-id': events[events.indexOf(image) - 1]!.id! });
    expect(rest.filter(({ event }) => event !== 'progress')).toEqual(events.slice(events.indexOf(image)).filter(({ event }) => event !== 'progress'));
    const { result } = await client.get<{ result: { data: { b64_json: string }[] } }>(`/jobs/${job.id}`);
    expect(result.data[0]!.b64_json).toBe(image.data['b64_json']);
    expect((await client.images.generate({ prompt: 'y', seed: 3, num_inference_steps: 20 } as never)).data![0]!.b64_json).toBe(result.data[0]!.b64_json);
  });
});

/** Rows of neutral grey at the bottom: not drawn yet. */
async function greyRows(base64: string): Promise<number> {
  const { data, info } = await sharp(Buffer.from(base64, 'base64')).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const stride = info.width * 3;
  let rows = 0;
  while (rows < info.height && data.subarray((info.height - rows - 1) * stride, (info.height - rows) * stride).every((value) => value === data.at(-1))) rows += 1;
  return rows;
}
