// What a server on a device must do. Each check is a row of the report; one that fails does not keep the next from running.
import { draw, drawTogether, sizeOfPng } from './pictures.mjs';

export const SEED = 42;
export const CROWD = 16;
/** The model's own sampler. */
export const OWN_SAMPLER = { acceleration: { mode: 'off' } };

export class Checks {
  rows = [];

  /** `run` throws, or says in a few words what it saw. */
  async check(name, run) {
    try {
      this.rows.push({ name, ok: true, detail: await run() });
    } catch (error) {
      this.rows.push({ name, ok: false, detail: error.message });
    }
    const { ok, detail } = this.rows.at(-1);
    console.error(`${ok ? 'ok  ' : 'FAIL'} ${name}: ${detail}`);
  }

  get failed() {
    return this.rows.filter(({ ok }) => !ok).length;
  }
}

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

/** All of a running, ready server, whose last model is one that always drafts where the first has a mode with drafts; returns the pictures that the model's own sampler drew of SEED and of another. */
export async function checkServer(checks, server, ready, device) {
  const models = JSON.parse((await server.get('/v1/models')).text).data;
  const [model] = models;
  const prompt = model.example_prompts[0];
  const isCuda = device.startsWith('cuda');
  await checks.check('/readyz names the device', () => {
    const [worker] = ready.workers;
    expect(ready.device === device && worker.device.id === device, `device ${ready.device}, worker ${JSON.stringify(worker.device)}`);
    expect(!isCuda || ready.backend === device, `backend ${ready.backend}`);
    return `${worker.device.id}, ${worker.device.name}, ${ready.dtype}`;
  });
  await checks.check('/v1/models names the device', () => {
    for (const { id, devices } of models) expect(devices.length === 1 && devices[0].id === device, `${id}: ${JSON.stringify(devices)}`);
    return `${model.id} on ${model.devices[0].id}`;
  });

  const seeds = Array.from({ length: CROWD }, (_, i) => SEED + i);
  const pictures = {};
  await checkWay(OWN_SAMPLER, 'own sampler', seeds, (drawn) => Object.assign(pictures, drawn));
  await checkWay({}, 'as the server is set', seeds);
  for (const { mode, few_step } of model.accelerations) {
    const drafting = mode === 'off' ? {} : { model: models.at(-1).id };
    await checkWay({ ...drafting, acceleration: { mode, few_step } }, `${mode}, few_step ${few_step}`, seeds.slice(0, 4));
  }

  await checks.check('a bad request is a 400 in the envelope of errors', async () => {
    const { status, json } = await server.post('/v1/images/generations', { prompt, size: '1x1' });
    expect(status === 400, `status ${status}`);
    expect(['message', 'type', 'param', 'code'].every((key) => key in json.error), JSON.stringify(json));
    expect(json.error.param === 'size', `param ${json.error.param}`);
    return `${json.error.type}, ${json.error.code}, ${json.error.param}`;
  });
  await checks.check('/metrics counts the pictures', async () => {
    const { status, text } = await server.get('/metrics');
    const count = [...text.matchAll(/^ardiff_images_total\{.*\} (\d+)$/gm)].reduce((sum, [, value]) => sum + Number(value), 0);
    expect(status === 200 && count >= CROWD, `status ${status}, ${count} pictures`);
    expect(!isCuda || new RegExp(`^ardiff_build_info\\{.*backend="${device}"`, "m").test(text), 'ardiff_build_info has another backend');
    return `${count} pictures, ${text.split('\n').length} lines`;
  });
  return { prompt, model: model.id, ...pictures };

  /** One picture alone, then its seed in the crowd: the same bytes, and those of other seeds are others. */
  async function checkWay(ways, label, crowdSeeds, keep = () => {}) {
    await checks.check(`same bytes alone and among ${crowdSeeds.length}: ${label}`, async () => {
      const alone = await draw(server, prompt, SEED, ways);
      expect(sizeOfPng(alone.png) === model.default_size, `the picture is ${sizeOfPng(alone.png)}`);
      const crowd = await drawTogether(server, prompt, crowdSeeds, ways);
      expect(crowd[0].png === alone.png, 'the bytes differ');
      expect(new Set(crowd.map(({ png }) => png)).size === crowdSeeds.length, 'two seeds drew the same picture');
      expectWay(alone.acceleration, ways.acceleration);
      keep({ png: alone.png, otherPng: crowd[1].png });
      return describe(alone.acceleration);
    });
  }
}

/** The answer says that it was drawn as asked. */
function expectWay(drawn, asked) {
  if (asked === undefined) return;
  expect(drawn.mode === asked.mode, `drawn with mode ${drawn.mode}`);
  expect((drawn.few_step ?? 0) === (asked.few_step ?? 0), `drawn with few_step ${drawn.few_step}`);
  expect(drawn.mode === 'off' || drawn.draft_tokens > 0, 'nothing was drafted');
}

function describe({ mode, few_step, rounds, draft_tokens, accepted_tokens }) {
  const drafts = mode === 'off' ? '' : `: ${rounds} rounds, ${accepted_tokens} of ${draft_tokens} drafts taken`;
  return `mode ${mode}, few_step ${few_step}${drafts}`;
}
