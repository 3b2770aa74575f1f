import { afterEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { ManualClock } from '../support/manual-clock.js';
import { ManualGateway } from '../support/manual-gateway.js';
import { DONE, picture, STARTED } from '../support/manual-worker.js';
import { until } from '../support/until.js';

let close: () => Promise<void>;

afterEach(() => close());

describe('gauges of jobs', () => {
  it('name every job by its state, and the age of the oldest that is not finished', async () => {
    const clock = new ManualClock();
    const manual = await ManualGateway.start({ clock });
    close = () => manual.close();
    const states = async (): Promise<(number | null)[]> =>
      Promise.all(['queued', 'running', 'succeeded', 'failed', 'cancelled'].map((state) => manual.gateway.metric(`ardiff_jobs{state="${state}"}`)));
    const age = (): Promise<number | null> => manual.gateway.metric('ardiff_oldest_job_age_seconds');
    expect([await states(), await age()]).toEqual([[0, 0, 0, 0, 0], 0]);
    const open = [manual.draw({ seed: 1 })];
    await manual.job(0);
    clock.advance(7000);
    for (const seed of [2, 3, 4]) open.push(manual.draw({ seed }));
    const emits = await Promise.all([0, 1, 2, 3].map((index) => manual.job(index)));
    clock.advance(3000);
    expect([await states(), await age()]).toEqual([[4, 0, 0, 0, 0], 10]);
    for (const event of [STARTED, picture(), DONE]) emits[0]!(event);
    emits[1]!({ kind: 'failed', error: new ServerError('engine_error', 'x') });
    open[2]!.abort();
    await until(async () => (await states())[4] === 1);
    emits[3]!(STARTED);
    expect([await states(), await age()]).toEqual([[0, 1, 1, 1, 1], 3]);
    await Promise.all([open[0]!.body, open[1]!.body]);
  });
});

describe('gauges of the batch', () => {
  it('count the slots in use', async () => {
    const gateway: Gateway = await createGateway({ maxBatch: 3, stepMs: 5 });
    close = () => gateway.close();
    const slots = async (): Promise<(number | null)[]> => Promise.all(['used', 'total'].map((state) => gateway.metric(`ardiff_batch_slots{state="${state}"}`)));
    expect(await slots()).toEqual([0, 3]);
    const drawing = gateway.post({ prompt: 'ab', n: 2 });
    await until(async () => (await slots())[0] === 2);
    await drawing;
    expect(await slots()).toEqual([0, 3]);
  });
});
