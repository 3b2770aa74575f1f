import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ManualGateway } from '../support/manual-gateway.js';
import { picture } from '../support/manual-worker.js';

/** Node's fetch gives up after 300 s without a response header. */
const ANSWER_AFTER_MS = 320_000;
const DONE = { kind: 'succeeded' as const, result: { images: [picture().image], timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };

let hinting: ManualGateway;
let silent: ManualGateway;

beforeAll(async () => {
  hinting = await ManualGateway.start();
  silent = await ManualGateway.start({ patience: { earlyHintsMs: 0 } });
});

afterAll(async () => {
  await hinting.close();
  await silent.close();
});

async function ask({ port }: ManualGateway, stream: boolean): Promise<{ outcome: unknown; seconds: number }> {
  const client = new OpenAI({ apiKey: 'any', baseURL: `http://127.0.0.1:${port}/v1`, maxRetries: 0 });
  const begin = performance.now();
  const draw = async (): Promise<unknown> => {
    if (!stream) return client.images.generate({ prompt: 'x' });
    for await (const event of await client.images.generate({ prompt: 'x', stream: true })) return event;
    return null;
  };
  const outcome = await draw().catch((thrown: unknown) => thrown);
  return { outcome, seconds: (performance.now() - begin) / 1000 };
}

describe('a picture that takes longer than fetch waits', () => {
  it('arrives through early hints, and as a stream; without hints the client gives up', async () => {
    const json = ask(hinting, false);
    const emitJson = await hinting.start(0);
    const stream = ask(hinting, true);
    const emitStream = await hinting.start(1);
    const lost = ask(silent, false);
    await silent.start(0);
    await new Promise((resolve) => setTimeout(resolve, ANSWER_AFTER_MS));
    for (const emit of [emitJson, emitStream]) {
      emit(picture());
      emit(DONE);
    }
    expect((await json).outcome).toMatchObject({ data: [{ b64_json: 'AA==' }] });
    expect((await json).seconds).toBeGreaterThan(ANSWER_AFTER_MS / 1000 - 1);
    expect((await stream).outcome).toMatchObject({ type: 'image_generation.completed' });
    // What the hints are for: if this does not fail any more, they are not needed any more.
    expect((await lost).outcome).toBeInstanceOf(Error);
    expect((await lost).seconds).toBeLessThan(315);
    expect(silent.worker.cancelled).toBe(1);
  });
});
