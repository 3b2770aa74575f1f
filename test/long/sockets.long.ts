import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseExposition } from '../support/exposition.js';
import { IdleLag, LAG_PERIOD_SECONDS } from '../support/idle-lag.js';
import { isAddonBuilt, ServerProcess } from '../support/server-process.js';
import { StreamClient } from '../support/stream-client.js';

const SOCKETS = 200;
/** Rounds that say something: the machine kept an idle process waiting for less than `QUIET_SECONDS`. */
const QUIET_ROUNDS = 5;
const QUIET_SECONDS = 0.005;
const MAX_ROUNDS = 40;
const LAG_SECONDS = 0.02;
/** A process that has served for a while has grown to its working size. */
const MEMORY_GROWTH = 1.25;

let server: ServerProcess;
let idle: IdleLag;

/** Of the server's own process, not of its worker's. */
async function ownGauge(name: string): Promise<number> {
  const samples = parseExposition((await server.get('/metrics')).text);
  return samples.find((sample) => sample.name === name && !('worker' in sample.labels))!.value;
}

describe.skipIf(!isAddonBuilt())('200 sockets with slow readers', () => {
  beforeAll(async () => {
    // One thread draws, so that the server has a core also on a machine of two.
    server = await ServerProcess.start(['--threads', '1'], 'bundled');
    idle = await IdleLag.start();
  });

  afterAll(async () => {
    await idle.stop();
    await server.stop();
  });

  it('keep the event loop free and the memory flat', { timeout: 600_000 }, async () => {
    const clients = await Promise.all(Array.from({ length: SOCKETS }, () => StreamClient.open(server.port)));
    for (const client of clients) client.send({ t: 'hello', preview: {} });
    const owner = clients[0]!;
    const rounds: { lag: number; idleLag: number; memory: number }[] = [];
    // Programs grow into their code in the first one.
    const quiet = () => rounds.slice(1).filter(({ idleLag }) => idleLag < QUIET_SECONDS);
    while (quiet().length < QUIET_ROUNDS && rounds.length < MAX_ROUNDS) {
      const round = rounds.length;
      // The gauges say what was since the scrape before.
      await Promise.all([ownGauge('nodejs_eventloop_lag_p99_seconds'), idle.p99Seconds()]);
      owner.send({ t: 'generate', id: `r${round}`, request: { prompt: 'red apple', n: 8, seed: round, partial_images: 3 } });
      const { job } = await owner.frame('accepted', round);
      for (const [index, client] of clients.entries()) {
        if (index > 0) client.send({ t: 'subscribe', job });
        // Every second one reads nothing for the whole round.
        if (index % 2 === 1) client.socket.pause();
      }
      await owner.frame('completed', round);
      const [lag, idleLag] = await Promise.all([ownGauge('nodejs_eventloop_lag_p99_seconds'), idle.p99Seconds()]);
      for (const client of clients) client.socket.resume();
      for (const client of clients) await client.frame('completed', round);
      const memory = await ownGauge('process_resident_memory_bytes');
      rounds.push({ lag: lag - LAG_PERIOD_SECONDS, idleLag: idleLag - LAG_PERIOD_SECONDS, memory });
    }
    for (const client of clients) {
      expect(client.pictures.filter(({ meta }) => meta['final'] === true)).toHaveLength(8 * rounds.length);
      expect(client.all('error')).toEqual([]);
    }
    const ms = (seconds: number): string => (seconds * 1000).toFixed(1);
    console.log(`event loop p99 (of an idle process) by round: ${rounds.map(({ lag, idleLag }) => `${ms(lag)} (${ms(idleLag)})`).join(', ')} ms`);
    console.log(`resident memory by round: ${rounds.map(({ memory }) => Math.round(memory / 2 ** 20)).join(', ')} MiB`);
    expect(rounds.at(-1)!.memory / rounds[1]!.memory).toBeLessThan(MEMORY_GROWTH);
    expect(quiet().length, 'rounds in which the machine was quiet enough to judge').toBeGreaterThanOrEqual(QUIET_ROUNDS);
    const lags = quiet().map(({ lag }) => lag).sort((a, b) => a - b);
    expect(lags[Math.floor(lags.length / 2)]).toBeLessThan(LAG_SECONDS);
    for (const client of clients) client.socket.terminate();
    await server.until('ardiff_ws_connections', (count) => count === 0);
  });
});
