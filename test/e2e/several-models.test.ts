import { afterEach, describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';

let server: ServerProcess;

afterEach(async () => {
  await server.stop();
});

const BODIES = Array.from({ length: 12 }, (_, i) => ({ prompt: `a cat ${i >> 1}`, model: i % 2 === 0 ? 'tiny' : 'other', seed: i, num_inference_steps: 60, size: '128x128' }));

async function draw(body: (typeof BODIES)[number]): Promise<string> {
  const { status, json } = await server.draw(body);
  expect(status).toBe(200);
  return json.data[0]!.b64_json;
}

describe.skipIf(!isAddonBuilt())('two models in one server', () => {
  it.each([[], ['--in-process']])('draw with requests for both in flight what each draws alone (%s)', { timeout: 120_000 }, async (...flags) => {
    server = await ServerProcess.start(['--dtype', 'float32', '--threads', '2', ...flags], 'twins');
    const alone: string[] = [];
    for (const body of BODIES) alone.push(await draw(body));
    expect(new Set(alone).size).toBe(BODIES.length);
    expect(await Promise.all(BODIES.map(draw))).toEqual(alone);
    for (const model of ['tiny', 'other']) {
      expect(await server.metric(`ardiff_images_total{model="${model}"}`)).toBe(BODIES.length);
      expect(await server.metric(`ardiff_model_loaded{model="${model}",dtype="float32"}`)).toBe(1);
      expect(await server.metric(`ardiff_image_tokens_total{model="${model}"}`)).toBe(BODIES.length * 64);
    }
  });

  it('are both drawn anew after the worker died', { timeout: 120_000 }, async () => {
    server = await ServerProcess.start(['--dtype', 'float32', '--threads', '2'], 'twins');
    // Long enough that a loaded machine sees both under way.
    const bodies = BODIES.slice(0, 2).map((body) => ({ ...body, num_inference_steps: 200, n: 8 }));
    const alone = [await draw(bodies[0]!), await draw(bodies[1]!)];
    const again = bodies.map(draw);
    await server.until('ardiff_requests_running', (running) => running === 2);
    process.kill(server.workerPid()!, 'SIGKILL');
    expect(await Promise.all(again)).toEqual(alone);
    expect(await server.metric('ardiff_worker_restarts_total')).toBe(1);
  });
});
