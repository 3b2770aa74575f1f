import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { ManualGateway } from '../support/manual-gateway.js';
import { picture } from '../support/manual-worker.js';
import { until } from '../support/until.js';

const HINTS_MS = 10;
const DONE = { kind: 'succeeded' as const, result: { images: [picture().image], timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };

let manual: ManualGateway;

beforeEach(async () => {
  manual = await ManualGateway.start({ patience: { earlyHintsMs: HINTS_MS } });
});

afterEach(() => manual.close());

describe('103 Early Hints', () => {
  it('come while a client waits, name the job, and leave the status open', async () => {
    const good = manual.draw({});
    await until(() => good.interim.length >= 3);
    (await manual.start(0))(DONE);
    const { statusCode, headers } = await good.response;
    expect(statusCode).toBe(200);
    expect(good.interim[0]).toMatchObject({ statusCode: 103, link: `</v1/jobs/${String(headers['x-job-id'])}>; rel=status` });
    expect(headers['link']).toBeUndefined();
    expect(headers['server-timing']).toBe('queue;dur=0, draw;dur=0, encode;dur=0, total;dur=0');
    const bad = manual.draw({});
    await until(() => bad.interim.length >= 1);
    (await manual.start(1))({ kind: 'failed', error: new ServerError('out_of_memory', 'no') });
    expect((await bad.response).statusCode).toBe(500);
  });

  it('reach fetch as silence that ends with the answer', async () => {
    const answer = fetch(`http://127.0.0.1:${manual.port}/v1/images/generations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'x' }),
    });
    const emit = await manual.start();
    await new Promise((resolve) => setTimeout(resolve, 5 * HINTS_MS));
    emit(DONE);
    const reply = await answer;
    expect(reply.status).toBe(200);
    expect(await reply.json()).toMatchObject({ data: [{ b64_json: 'AA==' }] });
  });

  it('are not sent to streams, to HTTP/1.0, or when they are off', async () => {
    const stream = manual.draw({ stream: true });
    await manual.start(0);
    const body = JSON.stringify({ prompt: 'x' });
    const old = connect(manual.port, '127.0.0.1');
    let text = '';
    old.on('data', (chunk) => (text += String(chunk)));
    old.write(`POST /v1/images/generations HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    await manual.start(1);
    await new Promise((resolve) => setTimeout(resolve, 5 * HINTS_MS));
    expect([stream.interim, text]).toEqual([[], '']);
    for (const emit of manual.worker.emits) emit(DONE);
    await until(() => text.includes('b64_json'));
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    old.destroy();

    await manual.close();
    manual = await ManualGateway.start({ patience: { earlyHintsMs: 0 } });
    const silent = manual.draw({});
    const emit = await manual.start();
    await new Promise((resolve) => setTimeout(resolve, 5 * HINTS_MS));
    emit(DONE);
    await silent.response;
    expect(silent.interim).toEqual([]);
  });
});
