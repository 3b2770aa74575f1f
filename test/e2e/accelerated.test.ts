import { afterEach, describe, expect, it } from 'vitest';
import type { AccelerationUsage } from '../../src/gateway/schemas.js';
import { cpuComputesIn, DTYPES } from '../support/cpu-dtypes.js';
import { isAddonBuilt, ServerProcess, type Answer } from '../support/server-process.js';
import { until } from '../support/until.js';

let server: ServerProcess;

afterEach(async () => {
  // Undefined after a test whose server did not come up.
  await (server as ServerProcess | undefined)?.stop();
});

const ACCELERATIONS = [
  { mode: 'relaxed', few_step: 1 },
  { mode: 'exact' },
  { mode: 'relaxed' },
  { mode: 'off', few_step: 2 },
  { mode: 'relaxed', few_step: 2 },
  { mode: 'off' },
  { mode: 'relaxed', few_step: 4, max_draft_tokens: 2 },
  { mode: 'exact', max_draft_tokens: 3 },
];

/** All ways of drawing, twice, with other prompts, seeds and sizes; what allows it with other guidance. */
const BODIES = Array.from({ length: 16 }, (_, i) => {
  const acceleration = ACCELERATIONS[i % ACCELERATIONS.length]!;
  const free = acceleration.mode === 'exact' || acceleration === ACCELERATIONS[5];
  return {
    prompt: ['a cat', 'a red apple on a table', 'x'][i % 3]!,
    seed: i * 1_000_003,
    acceleration,
    size: i % 5 === 0 ? '64x64' : '128x128',
    ...(free && i > 8 ? { guidance_scale: 7.5, negative_prompt: 'ugly', num_inference_steps: 6 } : {}),
  };
});

interface Drawn {
  picture: string;
  acceleration: AccelerationUsage;
}

function drawn({ status, json }: Answer): Drawn {
  expect([status, json.error]).toEqual([200, undefined]);
  const { usage } = json as unknown as { usage: { acceleration: AccelerationUsage } };
  return { picture: json.data.map(({ b64_json: base64 }) => base64).join(), acceleration: usage.acceleration };
}

const drawTogether = async (bodies: readonly object[] = BODIES): Promise<Drawn[]> => (await Promise.all(bodies.map((body) => server.draw(body)))).map(drawn);

describe.skipIf(!isAddonBuilt())('a real server with an accelerator', () => {
  it.for(DTYPES)('draws the same bytes and counts alone, among 16 in all modes, and after preemption (%s)', { timeout: 240_000 }, async (dtype, { skip }) => {
    skip(!cpuComputesIn(dtype), 'this processor does not multiply bfloat16');
    const flags = ['--backend', 'cpu', '--dtype', dtype, '--threads', '2'];
    server = await ServerProcess.start(flags, 'accelerated');
    const alone: Drawn[] = [];
    for (const body of BODIES) alone.push(drawn(await server.draw(body)));
    expect(new Set(alone.map(({ picture }) => picture)).size).toBe(BODIES.length);
    expect(alone.map(({ acceleration: { mode, few_step: fewStep } }) => [mode, fewStep])).toEqual(BODIES.map(({ acceleration }) => [acceleration.mode, 'few_step' in acceleration ? acceleration.few_step : 0]));
    // Drafts are taken and thrown away, otherwise equality below would say little. Exactly, those of an untrained draft rarely pass.
    const sum = (mode: 'exact' | 'relaxed', key: 'draft_tokens' | 'accepted_tokens'): number => alone.reduce((total, { acceleration }) => total + (acceleration.mode === mode ? acceleration[key] : 0), 0);
    for (const mode of ['exact', 'relaxed'] as const) expect(sum(mode, 'accepted_tokens')).toBeLessThan(sum(mode, 'draft_tokens'));
    expect(sum('relaxed', 'accepted_tokens')).toBeGreaterThan(0);
    expect(await drawTogether()).toEqual(alone);
    expect(await server.metric('ardiff_preemptions_total')).toBe(0);
    expect(await server.metric('ardiff_spec_decode_accepted_tokens_total{model="tiny"}')).toBe(2 * alone.reduce((sum, { acceleration }) => sum + acceleration.accepted_tokens, 0));
    await server.stop();

    server = await ServerProcess.start([...flags, '--kv-sequences', '2'], 'accelerated');
    expect(await drawTogether()).toEqual(alone);
    expect(await server.metric('ardiff_preemptions_total')).toBeGreaterThan(0);
    expect(await server.metric('ardiff_kv_cache_blocks{state="used"}')).toBe(0);
  });

  it('costs nobody anything when the worker is killed mid-picture', { timeout: 240_000 }, async () => {
    server = await ServerProcess.start([], 'accelerated');
    const bodies = [
      { prompt: 'a cat', seed: 1, n: 2, acceleration: { mode: 'exact' }, num_inference_steps: 30 },
      { prompt: 'a red apple', seed: 2, n: 4, acceleration: { mode: 'relaxed', few_step: 4 } },
      { prompt: 'a cat', seed: 3, n: 3, acceleration: { mode: 'relaxed' } },
      { prompt: 'x', seed: 4, n: 2, acceleration: { mode: 'off' }, num_inference_steps: 60 },
    ];
    const undisturbed = await drawTogether(bodies);
    await until(() => server.workerPid() !== null, 'a worker');
    const drawing = drawTogether(bodies);
    const tokens = 'ardiff_image_tokens_total{model="tiny"}';
    const before = await server.metric(tokens);
    await server.until(tokens, (value) => value >= before + 50);
    process.kill(server.workerPid()!, 'SIGKILL');
    expect(await drawing).toEqual(undisturbed);
    expect(await server.metric('ardiff_worker_restarts_total{reason="exit"}')).toBe(1);
    expect(await server.metric('ardiff_job_redeliveries_total')).toBeGreaterThan(0);
  });
});
