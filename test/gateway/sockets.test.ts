import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManualGateway } from '../support/manual-gateway.js';
import { picture } from '../support/manual-worker.js';
import { until } from '../support/until.js';

let manual: ManualGateway;

beforeEach(async () => {
  manual = await ManualGateway.start({ patience: { requestTimeoutMs: 150 } });
});

afterEach(() => manual.close());

function open(...bytes: (string | Buffer)[]): { socket: Socket; text: () => string; closed: Promise<void> } {
  const socket = connect(manual.port, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString('latin1')));
  socket.on('error', () => undefined);
  for (const part of bytes) socket.write(part);
  return { socket, text: () => text, closed: new Promise((resolve) => socket.once('close', () => { resolve(); })) };
}

const post = (headers: string, body = JSON.stringify({ prompt: 'x' })): string =>
  `POST /v1/images/generations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;

/** The server is as it was: a request on another connection is served. */
async function stillServes(): Promise<void> {
  const index = manual.worker.emits.length;
  const next = manual.draw({});
  const emit = await manual.start(index);
  emit(picture());
  emit({ kind: 'succeeded', result: { images: [picture().image], timings: { queue: 0, draw: 0, encode: 0, total: 0 } } });
  expect((await next.response).statusCode).toBe(200);
}

const envelope = (text: string): unknown => JSON.parse(text.split('\r\n\r\n')[1]!);

describe('sockets that misbehave', () => {
  it('a client that sent two requests at once and is gone: both jobs end, also the one whose answer had to wait', async () => {
    const { socket } = open(post(''), post('', JSON.stringify({ prompt: 'x', stream: true })));
    await manual.start(0);
    await manual.start(1);
    socket.destroy();
    await until(() => manual.worker.cancelled === 2);
    await stillServes();
  });

  it('a client that closes its half while it waits is gone: its job ends', async () => {
    const half = open(post(''));
    await manual.start();
    half.socket.end();
    await until(() => manual.worker.cancelled === 1);
    await half.closed;
    await stillServes();
  });

  it('a body that never comes is a 408, and starts nothing', async () => {
    const half = open(post('').slice(0, -5));
    await half.closed;
    expect(half.text()).toMatch(/^HTTP\/1\.1 408 Request Timeout/);
    expect(envelope(half.text())).toMatchObject({ error: { code: 'request_timeout', type: 'invalid_request_error' } });
    expect(manual.worker.emits).toHaveLength(0);
    await stillServes();
  });

  it('a body that breaks off starts nothing', async () => {
    const half = open(post('').slice(0, -5));
    await new Promise((resolve) => setTimeout(resolve, 20));
    half.socket.destroy();
    await stillServes();
    expect(manual.worker.emits).toHaveLength(1);
  });

  it.each([
    ['a NUL in a header', 'idempotency-key: a\0b\r\n'],
    ['a header without a name', ': x\r\n'],
    ['a folded header', 'prefer: respond-async,\r\n wait=5\r\n'],
  ])('%s is a 400 with the envelope', async (_name, header) => {
    const bad = open(post(header));
    await bad.closed;
    expect(bad.text()).toMatch(/^HTTP\/1\.1 400 Bad Request/);
    expect(envelope(bad.text())).toMatchObject({ error: { type: 'invalid_request_error' } });
    await stillServes();
  });

  it('bytes beyond ASCII in a key are a typed error', async () => {
    const bad = open(Buffer.from(post('idempotency-key: \u00ff\u00fe\r\nconnection: close\r\n'), 'latin1'));
    await bad.closed;
    expect(envelope(bad.text())).toMatchObject({ error: { code: 'invalid_value', param: 'Idempotency-Key' } });
    await stillServes();
  });

  it('headers beyond all measure are a 431', async () => {
    const bad = open(post(`idempotency-key: ${'k'.repeat(100_000)}\r\n`));
    await bad.closed;
    expect(bad.text()).toMatch(/^HTTP\/1\.1 431 /);
    await stillServes();
  });

  it('a reader that vanishes in the middle of a stream ends its job and nobody else\'s', async () => {
    const other = manual.draw({ stream: true, stream_options: { include_progress: true } });
    await manual.start(0);
    await other.response;
    const gone = open(post('', JSON.stringify({ prompt: 'x', stream: true, stream_options: { include_progress: true } })));
    await manual.start(1);
    await until(() => gone.text().includes('image_generation.progress'));
    gone.socket.resetAndDestroy();
    await until(() => manual.worker.cancelled === 1);
    expect(manual.gateway.backend.queueOf('tiny').running).toBe(1);
    other.abort();
    await stillServes();
  });
});
