import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { Ajv } from 'ajv';
import { afterEach, describe, expect, it } from 'vitest';
import { ServerError } from '../../../src/errors.js';
import { CLIENT_FRAMES, SERVER_FRAMES, STREAM_LIMITS } from '../../../src/gateway/stream/frames.js';
import type { GatewayOptions } from '../../support/gateway-harness.js';
import { ManualClock } from '../../support/manual-clock.js';
import { ManualGateway } from '../../support/manual-gateway.js';
import { DONE, picture, preview, STARTED, tokens } from '../../support/manual-worker.js';
import { StreamClient, type TextFrame } from '../../support/stream-client.js';
import { until } from '../../support/until.js';

const ajv = new Ajv({ strict: false });
const schemas = new Map(Object.entries(SERVER_FRAMES).map(([t, schema]) => [t, ajv.compile(schema)]));

let manual: ManualGateway;
let isClosed = false;
const clients: StreamClient[] = [];

async function start(options: GatewayOptions = {}): Promise<void> {
  manual = await ManualGateway.start(options);
  isClosed = false;
}

async function stop(): Promise<void> {
  if (isClosed) return;
  isClosed = true;
  await manual.close();
}

async function open(hello: object | null = { preview: {} }): Promise<StreamClient> {
  const client = await StreamClient.open(manual.port);
  clients.push(client);
  if (hello !== null) {
    client.send({ t: 'hello', ...hello });
    await client.frame('welcome');
  }
  return client;
}

const generate = (fields: object = {}, request: object = {}): object => ({ t: 'generate', id: 'a', request: { prompt: 'x', seed: 5, ...request }, ...fields });

afterEach(async () => {
  // Whatever a test was about: every frame it was sent is one of the protocol.
  for (const frame of clients.flatMap((client) => client.frames)) {
    const validate = schemas.get(frame.t);
    expect(validate, `unknown frame ${frame.t}`).toBeDefined();
    validate!(frame);
    expect({ frame, errors: validate!.errors ?? [] }).toEqual({ frame, errors: [] });
  }
  for (const client of clients.splice(0)) client.socket.terminate();
  await stop();
});

const types = (client: StreamClient): string[] => client.frames.map((frame) => frame.t);

describe('a job on a socket', () => {
  it('is told from acceptance to its picture, in order', async () => {
    await start();
    const client = await open();
    client.send(generate());
    const emit = await manual.start();
    for (const event of [tokens(0, 8), preview('rows', 0, { bytes: 3 }), tokens(8, 16), picture(0, 5), DONE]) emit(event);
    const completed = await client.frame('completed');
    expect(types(client)).toEqual(['welcome', 'accepted', 'queued', 'started', 'progress', 'tokens', 'progress', 'preview', 'tokens', 'progress', 'image', 'progress', 'completed']);
    const accepted = await client.frame('accepted');
    expect(accepted).toMatchObject({ id: 'a', position: 0, seeds: [5], joined: false });
    expect(client.all('tokens').map(({ image, from, to }) => [image, from, to])).toEqual([[0, 0, 8], [0, 8, 16]]);
    expect(await client.frame('preview')).toMatchObject({ image: 0, n: 0, kind: 'rows', bytes: 3, mime: 'image/png' });
    expect(completed).toMatchObject({ usage: { output_tokens: 16, acceleration: { mode: 'off' } } });
    expect(client.pictures.map(({ meta, bytes }) => [meta['final'], meta['image_type'], bytes.length])).toEqual([[false, 'image/png', 3], [true, 'image/png', 5]]);
    expect(client.pictures[0]!.meta).toMatchObject({ job: accepted['job'], image: 0, rect: { x: 0, y: 0, width: 8, height: 8 } });
    const fractions = client.all('progress').map((frame) => frame['fraction'] as number);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBe(1);
    await until(async () => (await manual.gateway.metric('ardiff_requests_total{model="tiny",api="stream",outcome="ok"}')) === 1);
  });

  it('asks for strips only if the client wants previews', async () => {
    await start();
    const without = await open({});
    without.send(generate());
    const emit = await manual.start();
    expect(manual.worker.requests[0]!.rowPreviews).toBe(false);
    for (const event of [preview('full', 0), picture(), DONE]) emit(event);
    await without.frame('completed');
    expect(without.all('preview')).toEqual([]);
  });

  it('passes on which drafts were taken', async () => {
    await start();
    const client = await open();
    client.send(generate());
    (await manual.start())({ kind: 'tokens', image: 0, from: 0, to: 3, total: 16, accepted: [true, false, true] });
    expect(await client.frame('tokens')).toMatchObject({ accepted: [true, false, true] });
  });

  it('is told of failure and of cancel', async () => {
    await start();
    const client = await open();
    client.send(generate({ id: 'one' }));
    client.send(generate({ id: 'two' }));
    const [one, two] = [await manual.start(0), await manual.start(1)];
    one(tokens(0, 3));
    one({ kind: 'failed', error: new ServerError('out_of_memory', 'No room.') });
    expect(await client.frame('failed')).toMatchObject({ error: { code: 'out_of_memory', type: 'server_error' }, at_step: 3 });
    two(tokens(0, 2));
    client.send({ t: 'cancel', job: (await client.frame('accepted', 1))['job'], reason: 'changed my mind' });
    expect(await client.frame('cancelled')).toMatchObject({ reason: 'api', error: { code: 'cancelled' }, at_step: 2 });
    expect(manual.worker.cancelled).toBe(1);
  });

  it('is the same job for the same idempotency key, and an error for another body', async () => {
    await start();
    const client = await open();
    client.send(generate({ id: 'one', idempotency_key: 'k' }));
    client.send(generate({ id: 'two', idempotency_key: 'k' }));
    client.send(generate({ id: 'three', idempotency_key: 'k' }, { prompt: 'other' }));
    const [one, two] = [await client.frame('accepted', 0), await client.frame('accepted', 1)];
    expect(two).toMatchObject({ id: 'two', job: one['job'], joined: true });
    // Of a joined job everything is still to be told.
    expect([one['seq'], two['seq']]).toEqual([0, 0]);
    expect(await client.frame('error')).toMatchObject({ id: 'three', error: { code: 'idempotency_conflict' } });
    expect(manual.worker.requests).toHaveLength(1);
  });

  it('goes to every watcher, from the start or from where they say', async () => {
    await start();
    const owner = await open();
    owner.send(generate());
    const { job, epoch } = await owner.frame('accepted');
    const emit = await manual.start();
    emit(tokens(0, 4));
    const [late, later] = [await open(), await open({})];
    late.send({ t: 'subscribe', job });
    await late.frame('tokens');
    const { seq } = (await owner.frame('tokens'));
    later.send({ t: 'subscribe', job, epoch, after: seq });
    await later.frame('subscribed');
    emit(tokens(4, 16));
    for (const event of [picture(), DONE]) emit(event);
    for (const client of [owner, late, later]) await client.frame('completed');
    expect(late.all('tokens').map(({ from, to }) => [from, to])).toEqual([[0, 4], [4, 16]]);
    expect(later.all('tokens').map(({ from, to }) => [from, to])).toEqual([[4, 16]]);
    expect([owner, late, later].map((client) => client.pictures.filter(({ meta }) => meta['final'] === true).length)).toEqual([1, 1, 1]);
    late.send({ t: 'unsubscribe', job });
    late.send({ t: 'ping' });
    await late.frame('pong');
  });

  it('tells a waiting client when its place changes', async () => {
    await start();
    const client = await open();
    client.send(generate({ id: 'one' }));
    client.send(generate({ id: 'two' }));
    expect(await client.frame('accepted', 1)).toMatchObject({ position: 1 });
    await manual.start(0);
    const moved = async (): Promise<TextFrame> => client.frame('queued', 2);
    expect(await moved()).toMatchObject({ position: 0, job: (await client.frame('accepted', 1))['job'] });
  });
});

describe('a client that comes back', () => {
  it('loses nothing and gets nothing twice', async () => {
    await start();
    const first = await open();
    first.send(generate());
    const { job, epoch } = await first.frame('accepted');
    const emit = await manual.start();
    emit(tokens(0, 4));
    const { seq } = await first.frame('tokens');
    await first.close();
    emit(tokens(4, 9));
    const second = await open({ preview: {}, resume: [{ job, epoch, after: seq }] });
    await second.frame('tokens');
    for (const event of [tokens(9, 16), picture(0, 4), DONE]) emit(event);
    await second.frame('completed');
    expect(second.all('tokens').map(({ from, to }) => [from, to])).toEqual([[4, 9], [9, 16]]);
    expect(second.all('gap')).toEqual([]);
    expect(second.pictures).toHaveLength(1);
    expect(await manual.gateway.metric('ardiff_ws_resumes_total{result="ok"}')).toBe(1);
  });

  it('is told what was trimmed, and where the job stands', async () => {
    await start();
    const first = await open();
    first.send(generate());
    const { job, epoch } = await first.frame('accepted');
    const emit = await manual.start();
    const { seq } = await first.frame('started');
    for (let i = 0; i < 300; i += 1) emit(tokens(i, i + 1));
    const second = await open({ preview: {}, resume: [{ job, epoch, after: seq }] });
    expect(await second.frame('gap')).toMatchObject({ job, from: (seq as number) + 1, to: (seq as number) + 44 });
    expect(await second.frame('snapshot')).toMatchObject({ job, status: 'running' });
    expect(await manual.gateway.metric('ardiff_ws_resumes_total{result="gap"}')).toBe(1);
    const third = await open({ resume: [{ job, epoch: 'other', after: 3 }] });
    await third.frame('gap');
    expect((await third.frame('started'))['job']).toBe(job);
  });

  it('is told that a job is forgotten, or that it asks for the future', async () => {
    await start();
    const first = await open();
    first.send(generate());
    const { job, epoch } = await first.frame('accepted');
    const second = await open({ resume: [{ job: 'gone', epoch: 'e', after: 1 }, { job, epoch, after: 1000 }] });
    expect(await second.frame('error')).toMatchObject({ job: 'gone', error: { code: 'job_not_found' } });
    expect(await second.frame('error', 1)).toMatchObject({ job, error: { code: 'invalid_value', param: 'after' } });
    expect(await manual.gateway.metric('ardiff_ws_resumes_total{result="unknown"}')).toBe(1);
  });
});

describe('a client that goes away', () => {
  const leaveWith = async (onDisconnect: unknown): Promise<ManualClock> => {
    const clock = new ManualClock();
    await start({ clock });
    const client = await open();
    client.send(generate(onDisconnect === undefined ? {} : { on_disconnect: onDisconnect }));
    await manual.start();
    await client.frame('started');
    await client.close();
    // The server has seen it when the socket is no longer counted.
    await until(async () => (await manual.gateway.metric('ardiff_ws_connections')) === 0);
    return clock;
  };

  it('cancels at once, if it said so', async () => {
    await leaveWith('cancel');
    expect(manual.worker.cancelled).toBe(1);
  });

  it.each([[undefined, 30_000], [{ grace_ms: 5000 }, 5000]])('has its grace (%j)', async (policy, graceMs) => {
    const clock = await leaveWith(policy);
    clock.advance(graceMs - 1);
    expect(manual.worker.cancelled).toBe(0);
    clock.advance(1);
    expect(manual.worker.cancelled).toBe(1);
  });

  it('keeps its job by coming back within the grace', async () => {
    const clock = new ManualClock();
    await start({ clock });
    const first = await open();
    first.send(generate());
    const { job, epoch } = await first.frame('accepted');
    await manual.start();
    await first.close();
    const second = await open({ resume: [{ job, epoch, after: 1 }] });
    await second.frame('started');
    clock.advance(100_000);
    expect(manual.worker.cancelled).toBe(0);
  });

  it('keeps what it was promised when it comes back and goes again', async () => {
    const clock = new ManualClock();
    await start({ clock });
    const first = await open();
    first.send(generate({ on_disconnect: 'detach' }));
    const { job, epoch, seq } = await first.frame('accepted');
    await manual.start();
    await first.close();
    const second = await open({ resume: [{ job, epoch, after: seq }] });
    // All of it, as nothing of the log was told by `accepted`.
    await second.frame('queued');
    await second.close();
    await until(async () => (await manual.gateway.metric('ardiff_ws_connections')) === 0);
    clock.advance(3_600_000);
    expect(manual.worker.cancelled).toBe(0);
  });

  it('leaves a detached job running', async () => {
    const clock = await leaveWith('detach');
    clock.advance(3_600_000);
    expect(manual.worker.cancelled).toBe(0);
  });
});

describe('previews', () => {
  it('wait for acknowledgements, the newest of each image', async () => {
    await start();
    const client = await open({ preview: {}, window: 1 });
    client.send(generate());
    const emit = await manual.start();
    emit(preview('rows', 0));
    const { job, seq } = await client.frame('preview');
    for (let i = 1; i < 4; i += 1) emit(preview('rows', i));
    emit(tokens(0, 8));
    await client.frame('tokens');
    expect(client.all('preview')).toHaveLength(1);
    client.send({ t: 'ack', job, seq });
    expect(await client.frame('preview', 1)).toMatchObject({ n: 3 });
    expect(await manual.gateway.metric('ardiff_previews_total{transport="ws",result="dropped"}')).toBe(2);
  });

  it('are left out when larger than asked for', async () => {
    await start();
    const client = await open({ preview: { max_px: 4 } });
    client.send(generate({}, { partial_images: 1 }));
    const emit = await manual.start();
    for (const event of [preview('full', 0), preview('rows', 0), picture(), DONE]) emit(event);
    await client.frame('completed');
    expect(client.all('preview').map(({ kind }) => kind)).toEqual(['rows']);
  });
});

describe('bad frames', () => {
  it.each<[string, string, string]>([
    ['no JSON', '{', 'invalid_json'],
    ['NUL', '\0', 'invalid_json'],
    ['no object', '[]', 'invalid_value'],
    ['no type', '{}', 'missing_required_parameter'],
    ['another type', '{"t":"dance"}', 'invalid_value'],
    ['a type of an object', '{"t":"constructor"}', 'invalid_value'],
    ['a type that is no text', '{"t":{}}', 'missing_required_parameter'],
    ['an unknown job', '{"t":"cancel","job":"x"}', 'job_not_found'],
    ['an unknown job to follow', '{"t":"subscribe","job":"x"}', 'job_not_found'],
    ['a job that is no text', '{"t":"ack","job":7,"seq":1}', 'invalid_value'],
    ['a seq that is no count', '{"t":"ack","job":"x","seq":-1}', 'invalid_value'],
    ['no request', '{"t":"generate","id":"a"}', 'missing_required_parameter'],
    ['no prompt', '{"t":"generate","id":"a","request":{}}', 'missing_required_parameter'],
    ['a request that is no object', '{"t":"generate","id":"a","request":"x"}', 'invalid_value'],
    ['a wrong number', '{"t":"generate","id":"a","request":{"prompt":"x","n":99}}', 'invalid_value'],
    ['an impossible size', '{"t":"generate","id":"a","request":{"prompt":"x","size":"1x1"}}', 'unsupported_value'],
    ['an unknown model', '{"t":"generate","id":"a","request":{"prompt":"x","model":"y"}}', 'model_not_found'],
    ['a lone surrogate', '{"t":"generate","id":"a","request":{"prompt":"\\ud800"}}', 'invalid_value'],
    ['a NUL in the prompt', '{"t":"generate","id":"a","request":{"prompt":"\\u0000"}}', 'invalid_value'],
    ['a stream in a stream', '{"t":"generate","id":"a","request":{"prompt":"x","stream":true}}', 'unsupported_value'],
    ['a policy that is none', '{"t":"generate","id":"a","on_disconnect":"maybe","request":{"prompt":"x"}}', 'invalid_value'],
    ['a grace of a year', '{"t":"generate","id":"a","on_disconnect":{"grace_ms":31536000000},"request":{"prompt":"x"}}', 'invalid_value'],
    ['a key with a space', '{"t":"generate","id":"a","idempotency_key":"a b","request":{"prompt":"x"}}', 'invalid_value'],
    ['a preview format that is not there', '{"t":"hello","preview":{"format":"gif"}}', 'invalid_value'],
    ['a resume that is no list', '{"t":"hello","resume":{}}', 'invalid_value'],
  ])('%s: a typed error, and the next frame works', async (_name, frame, code) => {
    await start();
    const client = await open({});
    client.send(frame);
    expect(await client.frame('error')).toMatchObject({ error: { code, message: expect.any(String) } });
    client.send(generate());
    await client.frame('accepted');
    expect(client.closed).toBeNull();
  });

  it('of the wrong type in any field are refused by name', async () => {
    await start();
    const client = await open({});
    let count = 0;
    for (const [t, schema] of Object.entries(CLIENT_FRAMES)) {
      for (const field of Object.keys(schema.properties).filter((name) => name !== 't')) {
        client.send({ t, id: 'a', job: 'j', seq: 1, request: { prompt: 'x' }, [field]: [[]] });
        const { error } = await client.frame('error', count);
        expect(error).toMatchObject({ code: 'invalid_value', param: expect.stringContaining(field) as string });
        count += 1;
      }
    }
    expect(count).toBeGreaterThan(12);
  });

  it('binary ones are refused, and the socket stays', async () => {
    await start();
    const client = await open({});
    client.socket.send(Buffer.from([1, 2, 3]), { binary: true });
    expect(await client.frame('error')).toMatchObject({ error: { code: 'invalid_value' } });
    client.send({ t: 'ping' });
    await client.frame('pong');
  });

  it('giant ones close the socket, with a reason; the server goes on', async () => {
    await start();
    const [large, giant] = [await open({}), await open({})];
    large.send('x'.repeat(STREAM_LIMITS.frameBytes + 1));
    expect(await large.frame('error')).toMatchObject({ error: { code: 'request_body_too_large' } });
    await until(() => large.closed?.code === 1009);
    giant.send('x'.repeat(8 * STREAM_LIMITS.frameBytes));
    await until(() => giant.closed !== null);
    expect(giant.closed!.code).toBe(1009);
    (await open({})).send({ t: 'ping' });
  });

  it('protocol garbage and half-open sockets cost nothing', async () => {
    await start({ patience: { pingMs: 30 } });
    const client = await open({});
    const raw = connect(manual.port, '127.0.0.1');
    raw.write('GET /v1/stream HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: ardiff.v1\r\n\r\n');
    raw.on('error', () => undefined);
    await until(async () => (await manual.gateway.metric('ardiff_ws_connections')) === 2);
    // Never answers a ping.
    await until(async () => (await manual.gateway.metric('ardiff_ws_connections')) === 1);
    raw.destroy();
    expect(client.closed).toBeNull();
    client.send({ t: 'ping' });
    await client.frame('pong');
  });
});

describe('the handshake', () => {
  const refused = (headers: Record<string, string>): Promise<{ status: number; body: string; headers: object }> =>
    new Promise((resolve, reject) => {
      const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };
      const call = httpRequest({ host: '127.0.0.1', port: manual.port, path: '/v1/stream', headers: { ...upgrade, ...headers } }, (reply) => {
        let body = '';
        reply.on('data', (chunk) => (body += String(chunk)));
        reply.on('end', () => { resolve({ status: reply.statusCode!, body, headers: reply.headers }); });
      });
      call.on('upgrade', () => { reject(new Error('upgraded')); });
      call.on('error', reject);
      call.end();
    });

  it('echoes only ardiff.v1, whatever key is offered beside it', async () => {
    await start();
    const client = await StreamClient.open(manual.port, { protocols: ['ardiff-key.secret', 'ardiff.v1'] });
    expect(client.socket.protocol).toBe('ardiff.v1');
    expect(client.socket.extensions).toBe('');
    client.socket.terminate();
  });

  it('is refused with a status and an envelope', async () => {
    await start();
    const other = await refused({ 'sec-websocket-protocol': 'chat' });
    expect([other.status, other.body]).toEqual([400, expect.stringContaining('"param":"Sec-WebSocket-Protocol"')]);
    const evil = await refused({ 'sec-websocket-protocol': 'ardiff.v1', origin: 'https://evil.example' });
    expect([evil.status, evil.body]).toEqual([403, expect.stringContaining('origin_not_allowed')]);
    const plain = await manual.gateway.app.inject({ method: 'GET', url: '/v1/stream' });
    expect([plain.statusCode, plain.json()]).toMatchObject([426, { error: { code: 'upgrade_required' } }]);
  });

  it('is open to the own host, to named origins and to who is no browser', async () => {
    await start();
    for (const origin of [undefined, `http://127.0.0.1:${manual.port}`, 'https://friend.example']) {
      const client = await StreamClient.open(manual.port, origin === undefined ? {} : { origin });
      client.socket.terminate();
    }
  });
});

describe('shutting down', () => {
  it('does not wait for a client that ignores its close, and lets nobody new in', async () => {
    await start();
    const client = await open({});
    // Reads nothing any more, so it never sees the close.
    client.socket.pause();
    manual.gateway.serving.status = 'draining';
    await expect(StreamClient.open(manual.port)).rejects.toThrow('503');
    const begin = performance.now();
    await stop();
    expect(performance.now() - begin).toBeLessThan(5000);
  });

  it('says when to come back', async () => {
    await start();
    const client = await open({});
    await stop();
    expect(await client.frame('draining')).toMatchObject({ reconnect_after_ms: expect.any(Number) });
    await until(() => client.closed?.code === 1001);
  });

  it('the first events of a job are not lost for a client that says hello late', async () => {
    await start();
    const client = await open(null);
    client.send(generate());
    await client.frame('accepted');
    expect(types(client)[0]).toBe('welcome');
    (await manual.job())(STARTED);
    await client.frame('started');
  });
});
