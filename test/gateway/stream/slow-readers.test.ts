import { afterEach, beforeEach, expect, it } from 'vitest';
import { ManualGateway } from '../../support/manual-gateway.js';
import { DONE, picture, preview, tokens } from '../../support/manual-worker.js';
import { StreamClient } from '../../support/stream-client.js';
import { until } from '../../support/until.js';

const MIB = 1024 * 1024;

let manual: ManualGateway;
const clients: StreamClient[] = [];

beforeEach(async () => {
  manual = await ManualGateway.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.terminate();
  await manual.close();
});

const buffered = async (): Promise<number> => (await manual.gateway.metric('ardiff_ws_buffered_bytes')) ?? 0;

async function watch(job: unknown): Promise<StreamClient> {
  const client = await StreamClient.open(manual.port);
  clients.push(client);
  client.send({ t: 'hello', preview: {} });
  client.send({ t: 'subscribe', job });
  await client.frame('queued');
  return client;
}

it('readers that do not read cost a bounded part of memory, and get the end whole when they do', async () => {
  const owner = await StreamClient.open(manual.port);
  clients.push(owner);
  owner.send({ t: 'hello', preview: {} });
  owner.send({ t: 'generate', id: 'a', request: { prompt: 'x', n: 2 } });
  const { job } = await owner.frame('accepted');
  const slow = await Promise.all(Array.from({ length: 20 }, () => watch(job)));
  for (const { socket } of slow) socket.pause();
  const emit = await manual.start();
  // 64 MiB of previews for each reader, if all were kept.
  for (let i = 0; i < 128; i += 1) {
    emit(tokens(i, i + 1));
    emit(preview('full', i, { bytes: MIB / 2 }));
    if (i % 8 === 0) await owner.frame('preview', owner.all('preview').length - 1);
  }
  for (const event of [picture(0, MIB), picture(1, MIB), DONE]) emit(event);
  await owner.frame('completed');
  // What the kernel's buffers take is not ours; what waits here is at most the mark and one picture, for each.
  expect(await buffered()).toBeLessThanOrEqual(slow.length * 2 * MIB);
  for (const { socket } of slow) socket.resume();
  await Promise.all(slow.map((client) => client.frame('completed')));
  for (const client of slow) {
    expect(client.pictures.filter(({ meta }) => meta['final'] === true).map(({ bytes }) => bytes.length)).toEqual([MIB, MIB]);
    expect(client.all('preview').length).toBeLessThan(20);
    expect(client.all('tokens').at(-1)).toMatchObject({ to: 128 });
  }
  await until(async () => (await buffered()) === 0);
});
