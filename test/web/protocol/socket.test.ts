import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DrawEvent } from '../../../web/src/protocol/events.js';
import { StreamSocket, type SocketState } from '../../../web/src/protocol/socket.js';
import { Transport } from '../../../web/src/protocol/transport.js';
import { FakeSocket } from '../support/fake-socket.js';

let sockets: FakeSocket[];
let states: SocketState[];
let stream: StreamSocket;
let events: DrawEvent[];

const newest = (): FakeSocket => sockets.at(-1)!;
const listen = (event: DrawEvent): void => { events.push(event); };
const types = (): string[] => events.map(({ type }) => type);
const WELCOME = { t: 'welcome', session: 's', heartbeat_ms: 15_000 };

beforeEach(() => {
  vi.useFakeTimers();
  [sockets, states, events] = [[], [], []];
  stream = new StreamSocket({
    url: 'ws://x/v1/stream',
    onState: (state) => states.push(state),
    open: () => {
      sockets.push(new FakeSocket());
      return newest() as unknown as WebSocket;
    },
  });
});

afterEach(() => {
  vi.useRealTimers();
});

async function connected(): Promise<void> {
  const welcome = stream.connect();
  newest().open();
  newest().say(WELCOME);
  expect(await welcome).toBe(true);
}

function accept(id: unknown, job = 'j1', epoch = 'e1'): void {
  newest().say({ t: 'accepted', id, job, epoch, seq: 1, ts: 0, position: 0, eta_ms: null, seeds: [5] });
}

describe('StreamSocket', () => {
  it('says hello, generates, and acknowledges nothing but previews', async () => {
    await connected();
    stream.draw({ prompt: 'a cat', seed: 5 }, listen);
    expect(newest().sent.map(({ t }) => t)).toEqual(['hello', 'generate']);
    expect(newest().of('generate')[0]).toMatchObject({ request: { prompt: 'a cat', seed: 5 }, on_disconnect: { grace_ms: 60_000 } });
    accept(newest().of('generate')[0]!['id']);
    newest().say({ t: 'completed', job: 'j1', seq: 2, ts: 0, usage: null, timings: null });
    expect(types()).toEqual(['accepted', 'completed']);
  });

  it('comes back after a lost connection and resumes where it was', async () => {
    await connected();
    stream.draw({ prompt: 'a cat' }, listen);
    accept(newest().of('generate')[0]!['id']);
    newest().say({ t: 'progress', job: 'j1', seq: 6, ts: 0, stage: 'ar', step: 1, total: 8, fraction: 0.2, eta_ms: null });
    newest().close();
    expect(types().at(-1)).toBe('interrupted');
    await vi.advanceTimersByTimeAsync(400);
    expect(sockets).toHaveLength(2);
    newest().open();
    expect(newest().of('hello')[0]).toMatchObject({ resume: [{ job: 'j1', epoch: 'e1', after: 6 }] });
    newest().say(WELCOME);
    newest().say({ t: 'completed', job: 'j1', seq: 9, ts: 0, usage: null, timings: null });
    expect(types()).toEqual(['accepted', 'progress', 'interrupted', 'resumed', 'completed']);
    expect(newest().of('generate')).toEqual([]);
  });

  it('asks again under the same key when the answer to a request was lost', async () => {
    await connected();
    stream.draw({ prompt: 'a cat' }, listen);
    const first = newest().of('generate')[0]!;
    newest().close();
    await vi.advanceTimersByTimeAsync(400);
    newest().open();
    newest().say(WELCOME);
    expect(newest().of('generate')).toEqual([first]);
  });

  it('draws the picture again, once, when the server has forgotten the job', async () => {
    await connected();
    stream.draw({ prompt: 'a cat', seed: 5 }, listen);
    accept(newest().of('generate')[0]!['id']);
    newest().close();
    await vi.advanceTimersByTimeAsync(400);
    newest().open();
    newest().say(WELCOME);
    const forgotten = { t: 'error', job: 'j1', error: { message: 'gone', type: 'invalid_request_error', param: null, code: 'job_not_found' } };
    newest().say(forgotten);
    const again = newest().of('generate')[0]!;
    expect(again).toMatchObject({ request: { seed: 5 } });
    newest().say({ t: 'error', id: again['id'], error: { message: 'loading', type: 'server_error', param: null, code: 'model_loading' } });
    await vi.advanceTimersByTimeAsync(600);
    expect(newest().of('generate')).toEqual([again, again]);
    accept(again['id'], 'j2', 'e2');
    newest().say({ ...forgotten, job: 'j2' });
    expect(events.at(-1)).toMatchObject({ type: 'failed', error: { code: 'job_not_found' } });
  });

  it('cancels by job, also what is accepted only after the cancel', async () => {
    await connected();
    const drawing = stream.draw({ prompt: 'a cat' }, listen);
    drawing.cancel();
    expect(newest().of('cancel')).toEqual([]);
    accept(newest().of('generate')[0]!['id']);
    expect(newest().of('cancel')).toEqual([{ t: 'cancel', job: 'j1' }]);
    newest().say({ t: 'cancelled', job: 'j1', seq: 2, ts: 0 });
    expect(types().at(-1)).toBe('cancelled');
  });

  it('fails one drawing on an error frame and leaves the others alone', async () => {
    await connected();
    stream.draw({ prompt: '' }, listen);
    const others: DrawEvent[] = [];
    stream.draw({ prompt: 'a cat' }, (event) => others.push(event));
    newest().say({ t: 'error', id: newest().of('generate')[0]!['id'], error: { message: 'no', type: 'invalid_request_error', param: 'prompt', code: 'invalid_value' } });
    expect(events).toMatchObject([{ type: 'failed', error: { param: 'prompt' } }]);
    expect(others).toEqual([]);
  });

  it('asks a silent server, and takes long silence for a loss', async () => {
    await connected();
    stream.draw({ prompt: 'a cat' }, listen);
    await vi.advanceTimersByTimeAsync(16_500);
    expect(newest().of('ping').length).toBeGreaterThan(0);
    await vi.advanceTimersByTimeAsync(15_000);
    expect(types()).toContain('interrupted');
  });

  it('waits as long as a draining server says', async () => {
    await connected();
    newest().say({ t: 'draining', reconnect_after_ms: 3000 });
    newest().close();
    await vi.advanceTimersByTimeAsync(2500);
    expect(sockets).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1500);
    expect(sockets).toHaveLength(2);
  });

  it('is refused when the welcome never comes', async () => {
    const closed = stream.connect();
    newest().close();
    expect(await closed).toBe(false);
    expect(stream.isRefused).toBe(true);
    const silent = stream.connect();
    newest().open();
    await vi.advanceTimersByTimeAsync(6000);
    expect(await silent).toBe(false);
    expect(states).toEqual(['connecting', 'refused', 'connecting', 'refused']);
  });
});

describe('Transport', () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it('asks for whole pictures over the socket only where they are wanted', async () => {
    const transport = new Transport(stream, () => undefined);
    await connected();
    await transport.connect();
    transport.draw({ prompt: 'a cat' }, 0, listen);
    transport.draw({ prompt: 'rocket' }, 3, listen);
    expect(newest().of('generate').map(({ request }) => request)).toEqual([{ prompt: 'a cat' }, { prompt: 'rocket', partial_images: 3 }]);
  });

  it('goes from socket to stream to plain HTTP as each is refused, and says so', async () => {
    const bodies: Record<string, unknown>[] = [];
    vi.stubGlobal('fetch', (_url: string, { body }: { body: string }) => {
      const request = JSON.parse(body) as Record<string, unknown>;
      bodies.push(request);
      const refusal = { error: { message: 'no', type: 'invalid_request_error', param: 'stream', code: 'unsupported_value' } };
      const answer = { data: [{ b64_json: 'AQ==', seed: 5 }] };
      return Promise.resolve(request['stream'] === true ? Response.json(refusal, { status: 400 }) : Response.json(answer));
    });
    const ways: string[] = [];
    const transport = new Transport(stream, (way) => ways.push(way));
    const connecting = transport.connect();
    newest().close();
    await connecting;
    expect(ways).toEqual(['sse']);
    transport.draw({ prompt: 'a cat', n: 1 }, 0, listen);
    await vi.waitFor(() => { expect(types()).toEqual(['image', 'completed']); });
    expect(ways).toEqual(['sse', 'http']);
    expect(bodies).toMatchObject([{ stream: true, partial_images: 3, stream_options: { include_progress: true } }, { prompt: 'a cat' }]);
    expect(bodies[1]).not.toHaveProperty('stream');
  });
});
