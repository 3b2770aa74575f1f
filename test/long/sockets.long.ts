import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';
import { StreamClient } from '../support/stream-client.js';

const SOCKETS = 200;
const ROUNDS = 8;
/** A process that has served for a while has grown to its working size. */
const MEMORY_GROWTH = 1.25;

let server: ServerProcess;

describe.skipIf(!isAddonBuilt())('200 sockets with slow readers', () => {
  beforeAll(async () => {
    server = await ServerProcess.start([], 'bundled');
  });

  afterAll(() => server.stop());

  it('keep the event loop free and the memory flat', async () => {
    const clients = await Promise.all(Array.from({ length: SOCKETS }, () => StreamClient.open(server.port)));
    for (const client of clients) client.send({ t: 'hello', preview: {} });
    const owner = clients[0]!;
    const lag: number[] = [];
    const memory: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      owner.send({ t: 'generate', id: `r${round}`, request: { prompt: 'red apple', n: 8, seed: round, partial_images: 3 } });
      const { job } = await owner.frame('accepted', round);
      for (const [index, client] of clients.entries()) {
        if (index > 0) client.send({ t: 'subscribe', job });
        // Every second one reads nothing for the whole round.
        if (index % 2 === 1) client.socket.pause();
      }
      await owner.frame('completed', round);
      // The gauges say what was since the scrape before.
      lag.push(await server.metric('nodejs_eventloop_lag_p99_seconds'));
      for (const client of clients) client.socket.resume();
      for (const client of clients) await client.frame('completed', round);
      memory.push(await server.metric('process_resident_memory_bytes'));
    }
    for (const client of clients) {
      expect(client.pictures.filter(({ meta }) => meta['final'] === true)).toHaveLength(8 * ROUNDS);
      expect(client.all('error')).toEqual([]);
    }
    const ms = lag.map((seconds) => Math.round(seconds * 1e4) / 10);
    console.log(`event loop p99 by round: ${ms.join(', ')} ms; resident memory: ${memory.map((bytes) => Math.round(bytes / 2 ** 20)).join(', ')} MiB`);
    const steady = lag.slice(1).sort((a, b) => a - b);
    expect(steady[Math.floor(steady.length / 2)]).toBeLessThan(0.02);
    expect(memory.at(-1)! / memory[1]!).toBeLessThan(MEMORY_GROWTH);
    for (const client of clients) client.socket.terminate();
    await server.until('ardiff_ws_connections', (count) => count === 0);
  });
});
