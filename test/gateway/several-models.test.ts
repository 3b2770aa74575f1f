import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ErrorEnvelope } from '../../src/errors.js';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { DONE, ManualWorker, STARTED } from '../support/manual-worker.js';
import { until } from '../support/until.js';

let gateway: Gateway;
let worker: ManualWorker;

beforeEach(async () => {
  worker = new ManualWorker();
  gateway = await createGateway({ second: {}, worker, queue: 1 });
});

afterEach(async () => {
  await gateway.close();
});

/** Leaves the job to the test; resolves once the worker has it. */
async function submit(body: object): Promise<number> {
  const before = worker.requests.length;
  void gateway.post(body);
  await until(() => worker.requests.length > before, 'the job');
  return before;
}

describe('several models in one server', () => {
  it('lists them, the one that requests get who name none first', async () => {
    const { data } = (await gateway.app.inject('/v1/models')).json<{ data: { id: string; prompt_mode: string }[] }>();
    expect(data.map(({ id, prompt_mode: mode }) => [id, mode])).toEqual([['tiny', 'text'], ['zoo', 'class']]);
    expect((await gateway.app.inject('/readyz')).json()).toMatchObject({ status: 'ready', models: ['tiny', 'zoo'] });
  });

  it('checks a request by the model it names', async () => {
    await submit({ prompt: 'dog' });
    await submit({ prompt: 'dog', model: 'zoo' });
    expect(worker.requests.map(({ model, prompt }) => [model, prompt])).toEqual([['tiny', 'text'], ['zoo', 'class']]);
    const unknownClass = await gateway.post({ prompt: 'a dog in the rain', model: 'zoo' });
    expect([unknownClass.statusCode, unknownClass.json<ErrorEnvelope>().error.param]).toEqual([400, 'prompt']);
    const unknownModel = await gateway.post({ prompt: 'dog', model: 'zoo2' });
    expect(unknownModel.json<ErrorEnvelope>().error.message).toContain("'tiny', 'zoo'");
  });

  it('gives every model a queue of its own', async () => {
    await submit({ prompt: 'dog' });
    const full = await gateway.post({ prompt: 'cat' });
    expect([full.statusCode, full.json<ErrorEnvelope>().error.code]).toEqual([429, 'queue_full']);
    // A full queue of one keeps nobody from the other, and its jobs are not ahead of theirs.
    const index = await submit({ prompt: 'dog', model: 'zoo' });
    expect(gateway.backend.queueOf('zoo')).toEqual({ waiting: 1, running: 0, capacity: 1 });
    worker.emits[index]!(STARTED);
    expect([gateway.backend.queueOf('zoo').running, gateway.backend.queueOf('tiny').running]).toEqual([1, 0]);
  });

  it('has every series once, by model', async () => {
    const index = await submit({ prompt: 'dog', model: 'zoo' });
    const waiting = (model: string): Promise<number | null> => gateway.metric(`ardiff_requests_waiting{model="${model}"}`);
    expect([await waiting('tiny'), await waiting('zoo')]).toEqual([0, 1]);
    worker.emits[index]!(STARTED);
    worker.emits[index]!(DONE);
    await until(async () => (await gateway.metric('ardiff_requests_total{model="zoo",outcome="ok"}')) !== null, 'the answer');
    expect(await gateway.metric('ardiff_queue_eta_seconds{model="zoo"}')).toBe(0);
    expect(await gateway.metric('ardiff_requests_running{model="tiny"}')).toBe(0);
  });

  it('does not take an equal body for another model to be the same request', async () => {
    const send = (body: object) =>
      gateway.app.inject({ method: 'POST', url: '/v1/images/generations', headers: { 'content-type': 'application/json', 'idempotency-key': 'k' }, payload: JSON.stringify(body) });
    void send({ prompt: 'dog', model: 'zoo' });
    await until(() => worker.requests.length === 1, 'the job');
    const other = await send({ prompt: 'dog', model: 'tiny' });
    expect([other.statusCode, other.json<ErrorEnvelope>().error.code]).toEqual([409, 'idempotency_conflict']);
  });
});
