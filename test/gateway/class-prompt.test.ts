import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JobRequest } from '../../src/jobs/job.js';
import type { ErrorEnvelope } from '../../src/errors.js';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { DONE, ManualWorker, picture, STARTED, tokens } from '../support/manual-worker.js';
import { parseSse } from '../support/sse.js';
import { until } from '../support/until.js';
import { CLASSES } from '../support/class-folder.js';

let gateway: Gateway;
let worker: ManualWorker;

beforeEach(async () => {
  worker = new ManualWorker();
  gateway = await createGateway({ classes: {}, worker, patience: { progressMs: 0 } });
});

afterEach(async () => {
  await gateway.close();
});

/** Posts, plays a picture, and gives the job that the worker got. */
async function draw(body: object): Promise<{ job: JobRequest; answer: Record<string, unknown> }> {
  const before = worker.emits.length;
  const reply = gateway.post(body);
  await until(() => worker.emits.length > before, 'the job');
  for (const event of [STARTED, picture(0), DONE]) worker.emits[before]!(event.kind === 'succeeded' ? { ...event, result: { ...event.result, images: [picture(0).image] } } : event);
  const { statusCode, ...rest } = await reply;
  expect(statusCode).toBe(200);
  return { job: worker.requests[before]!, answer: rest.json<Record<string, unknown>>() };
}

async function refused(body: object, drawnBefore = 0): Promise<ErrorEnvelope['error']> {
  const reply = await gateway.post(body);
  expect(reply.statusCode).toBe(400);
  expect(worker.requests).toHaveLength(drawnBefore);
  return reply.json<ErrorEnvelope>().error;
}

describe('a request to a model that draws classes', () => {
  it('reaches the worker as a class with every default filled in', async () => {
    const { job } = await draw({ prompt: ' Red  Apple', seed: 9 });
    expect(job).toEqual({
      model: 'zoo',
      prompt: 'class',
      classLabel: 0,
      passes: 4,
      sampler: 'maruyama',
      driftScale: 0.9,
      noiseScale: 0.95,
      timesteps: 20,
      guidanceScale: 1.3,
      gridHeight: 8,
      gridWidth: 8,
      seeds: [9],
      acceleration: { fewStep: 0, speculation: null, underLoad: 0 },
      quality: 'medium',
      format: 'png',
      compression: 100,
      partialImages: 0,
      rowPreviews: false,
    });
  });

  it.each([
    [{ prompt: 'apple' }, { classLabel: 0 }],
    [{ prompt: 'n02012849' }, { classLabel: 2 }],
    [{ prompt: '1' }, { classLabel: 1 }],
    [{ prompt: 'dog', num_inference_steps: 1, guidance_scale: 1 }, { timesteps: 1, guidanceScale: 1 }],
    [{ prompt: 'dog', quality: 'low' }, { timesteps: 10 }],
    [{ prompt: 'dog', size: '64x64', negative_prompt: '', acceleration: { mode: 'auto' } }, { classLabel: 3 }],
  ])('%j is %j', async (body, expected) => {
    expect((await draw(body)).job).toMatchObject(expected);
  });

  it('is counted in passes, and a class as one token', async () => {
    expect((await draw({ prompt: 'dog' })).answer['usage']).toMatchObject({ input_tokens: 1, output_tokens: 4, total_tokens: 5, acceleration: { mode: 'off' } });
    await refused({ prompt: 'no such thing' }, 1);
    expect(await gateway.metric('ardiff_prompt_tokens_total{model="zoo"}')).toBe(1);
  });

  it('shows its progress in timesteps over all passes', async () => {
    const reply = gateway.post({ prompt: 'dog', stream: true, stream_options: { include_progress: true } });
    await until(() => worker.emits.length > 0, 'the job');
    const emit = worker.emits[0]!;
    emit(STARTED);
    // Half of 4 passes of 20 timesteps.
    emit({ ...tokens(0, 40), total: 80 });
    emit(picture(0));
    emit(DONE);
    const events = parseSse((await reply).body).events.map(({ data }) => data as { type: string; stage?: string; fraction?: number });
    const half = events.find(({ stage }) => stage === 'ar');
    expect(half?.fraction).toBeCloseTo(0.48, 2);
  });

  it.each<[string, object, Partial<ErrorEnvelope['error']>, RegExp]>([
    ['an unknown class, with what is close', { prompt: 'a dogg' }, { code: 'invalid_value', param: 'prompt' }, /"a dogg" names no class.*Close to it: "dog".*\/v1\/models\/zoo\/classes/],
    ['an unknown class with nothing close', { prompt: 'zzzz' }, { code: 'invalid_value', param: 'prompt' }, /"zzzz" names no class of this model, which draws classes only; GET/],
    ['two classes of one name', { prompt: 'crane' }, { code: 'invalid_value', param: 'prompt' }, /"n03126707" \(crane, construction machine\), "n02012849" \(crane, bird\)/],
    ['an index outside', { prompt: '4' }, { code: 'invalid_value', param: 'prompt' }, /"4" names no class/],
    ['a blank prompt', { prompt: '  ' }, { code: 'invalid_value', param: 'prompt' }, /blank/],
    ['a NUL', { prompt: 'dog\0' }, { code: 'invalid_value', param: 'prompt' }, /NUL/],
    ['a caption', { prompt: 'x'.repeat(500) }, { code: 'invalid_value', param: 'prompt' }, /^prompt "x{80}…" names/],
    ['a negative prompt', { prompt: 'dog', negative_prompt: 'cat' }, { code: 'unsupported_value', param: 'negative_prompt' }, /no negative prompt/],
    ['another size', { prompt: 'dog', size: '128x128' }, { code: 'unsupported_value', param: 'size' }, /"auto", "64x64"/],
    ['exact acceleration', { prompt: 'dog', acceleration: { mode: 'exact' } }, { code: 'unsupported_value', param: 'acceleration.mode' }, /cannot be verified exactly/],
    ['relaxed without calibration', { prompt: 'dog', acceleration: { mode: 'relaxed' } }, { code: 'unsupported_value', param: 'acceleration.mode' }, /no calibration/],
    ['few steps without a head', { prompt: 'dog', acceleration: { few_step: 2 } }, { code: 'unsupported_value', param: 'acceleration.few_step' }, /no calibrated few-step head/],
    ['guidance below 1', { prompt: 'dog', guidance_scale: 0.9 }, { code: 'invalid_value', param: 'guidance_scale' }, /./],
  ])('is refused for %s, before anything is drawn', async (_name, body, error, message) => {
    const answer = await refused(body);
    expect(answer).toMatchObject(error);
    expect(answer.message).toMatch(message);
  });
});

describe('a request to one with an accelerator', () => {
  beforeEach(async () => {
    await gateway.close();
    gateway = await createGateway({ classes: {}, accelerator: {}, worker, patience: { progressMs: 0 } });
  });

  it.each<[string, object, object]>([
    ['nothing said: the fastest that passed', {}, { fewStep: 1, speculation: null, underLoad: 0 }],
    ['few steps', { acceleration: { mode: 'off', few_step: 4 } }, { fewStep: 4, speculation: null }],
    ['relaxed', { acceleration: { mode: 'relaxed' } }, { fewStep: 0, speculation: { mode: 'relaxed', draftJumps: 2, tolerance: 0.5, drafting: 'sequential', gate: { kind: 'off' } } }],
    ['both', { acceleration: { mode: 'relaxed', few_step: 2 } }, { fewStep: 2, speculation: { draftJumps: 2 } }],
    ['other guidance, which only follows from nothing said', { guidance_scale: 2 }, { fewStep: 0, speculation: null }],
    ['quality high', { quality: 'high' }, { fewStep: 0, speculation: null }],
  ])('%s', async (_name, body, acceleration) => {
    expect((await draw({ prompt: 'dog', ...body })).job.acceleration).toMatchObject(acceleration);
  });

  it.each<[string, object, string, RegExp]>([
    ['exact', { acceleration: { mode: 'exact' } }, 'acceleration.mode', /cannot be verified exactly/],
    ['a mode that was not calibrated', { acceleration: { mode: 'relaxed', few_step: 4 } }, 'acceleration.mode', /no calibration for "relaxed" with few_step 4/],
    ['few steps with timesteps', { acceleration: { few_step: 1 }, num_inference_steps: 20 }, 'num_inference_steps', /was made for one jump per pass/],
    ['few steps with other guidance', { acceleration: { few_step: 1 }, guidance_scale: 2 }, 'guidance_scale', /was made for guidance_scale 1.3/],
    ['relaxed with other timesteps', { acceleration: { mode: 'relaxed' }, num_inference_steps: 10 }, 'num_inference_steps', /was made for 20 timesteps/],
  ])('is refused for %s', async (_name, body, param, message) => {
    const answer = await refused({ prompt: 'dog', ...body });
    expect(answer).toMatchObject({ code: 'unsupported_value', param });
    expect(answer.message).toMatch(message);
  });

  it('says in its description what it can', async () => {
    const { accelerations, quality_presets: presets } = (await gateway.app.inject('/v1/models/zoo')).json<{ accelerations: object[]; quality_presets: object }>();
    expect(accelerations[0]).toEqual({ mode: 'off', few_step: 1, speedup: 9, passed: true, max_draft_tokens: 0 });
    expect(accelerations).toContainEqual({ mode: 'relaxed', few_step: 0, speedup: 2.5, passed: true, max_draft_tokens: 1 });
    expect(presets).toMatchObject({ medium: { acceleration: { mode: 'off', few_step: 1 } } });
  });

  it('is counted in passes by what became of the drafts, its progress in timesteps of what draws each', async () => {
    const reply = gateway.post({ prompt: 'dog', acceleration: { mode: 'relaxed', few_step: 2 }, stream: true, stream_options: { include_progress: true } });
    await until(() => worker.emits.length > 0, 'the job');
    const emit = worker.emits[0]!;
    emit(STARTED);
    // One reference of 3, each of 20 timesteps, before a picture of 2 jumps.
    emit({ ...tokens(0, 20), total: 62 });
    emit(picture(0));
    emit(DONE);
    const events = parseSse((await reply).body).events.map(({ data }) => data as { stage?: string; fraction?: number; usage?: object });
    expect(events.find(({ stage }) => stage === 'ar')?.fraction).toBeCloseTo((0.96 * 20) / 62, 3);
    expect(events.findLast(({ usage }) => usage !== undefined)?.usage).toMatchObject({ output_tokens: 4, acceleration: { mode: 'relaxed', few_step: 2 } });
  });
});

describe('what may have been meant', () => {
  it.each([
    ['a dogg', [{ prompt: 'dog', name: 'dog' }]],
    ['crane', [{ prompt: 'n03126707', name: 'crane, construction machine' }, { prompt: 'n02012849', name: 'crane, bird' }]],
    // Close, and of a name that two have: as it would be understood.
    ['cranes', [{ prompt: 'n03126707', name: 'crane, construction machine' }, { prompt: 'n02012849', name: 'crane, bird' }]],
  ])('comes with the refusal of %j, as prompts', async (prompt, suggestions) => {
    expect((await refused({ prompt })).suggestions).toEqual(suggestions);
    for (const suggestion of suggestions) await draw({ prompt: suggestion.prompt });
  });

  it('is no part of other refusals', async () => {
    expect(await refused({ prompt: 'zzzz' })).not.toHaveProperty('suggestions');
    expect(await refused({ prompt: ' ' })).not.toHaveProperty('suggestions');
  });
});

describe('GET /v1/models of such a model', () => {
  it('says so', async () => {
    const description = (await gateway.app.inject('/v1/models/zoo')).json<Record<string, unknown>>();
    expect(description).toMatchObject({
      prompt_mode: 'class',
      num_classes: 4,
      passes: 4,
      sizes: ['64x64'],
      row_previews: false,
      defaults: { num_inference_steps: 20, guidance_scale: 1.3, negative_prompt: '', sampler: 'maruyama' },
      quality_presets: { low: { num_inference_steps: 10 } },
      accelerations: [],
      example_prompts: ['dog', 'red apple'],
    });
    expect(description).not.toHaveProperty('max_prompt_tokens');
  });

  it('lists the classes', async () => {
    const { data } = (await gateway.app.inject('/v1/models/zoo/classes')).json<{ data: unknown[] }>();
    expect(data).toEqual(CLASSES.map((entry) => ({ synonyms: [], synset: null, group: null, ...entry })));
    expect((await gateway.app.inject('/v1/models/nothing/classes')).statusCode).toBe(404);
  });
});

describe('GET /v1/models/{id}/classes of a model that draws captions', () => {
  it('is not found', async () => {
    const captions = await createGateway();
    const reply = await captions.app.inject('/v1/models/tiny/classes');
    expect([reply.statusCode, reply.json<ErrorEnvelope>().error.code]).toEqual([404, 'not_found']);
    await captions.close();
  });
});
