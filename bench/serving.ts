import { openTextModel } from '../src/model/served-model.js';
import { compilePeakProbe, operationsPerPicture } from './arithmetic.js';
import type { Bench } from './context.js';
import { LineProcess } from './line-process.js';
import type { PartReport, Row } from './report.js';
import { Server } from './server.js';
import { ratiosOf, show, spreadOf } from './stats.js';

const PROMPTS = ['red apple', 'cat face', 'rocket, 3d style', 'four leaf clover', 'snowman', 'pizza', 'sun behind cloud', 'blue heart'];

/** Unaccelerated, as the engine alone draws beside it. */
const bodyOf = (index: number): object => ({ prompt: PROMPTS[index % PROMPTS.length], seed: index, acceleration: { mode: 'off' } });

const MANY = 16;
/** Enough for each of many clients that filling the batch and emptying it are a small part of the time. */
const MANY_EACH = 12;

/**
 * What HTTP, validation, tokenising, scheduling and the answer add to the engine's own time: to the one request there
 * is, which waits for all of it, and with many clients, where it is done while the engine draws for others.
 */
export async function benchOverhead(bench: Bench): Promise<PartReport> {
  const AIM = 0.03;
  const server = await Server.start(bench.options);
  try {
    for (let i = 0; i < 3; i += 1) await server.generate(bodyOf(i));
    const engine: number[] = [];
    const beside: number[] = [];
    const nothing: number[] = [];
    for (let i = 0; i < 3 * bench.options.rounds; i += 1) {
      nothing.push(await server.roundTrip());
      const before = await server.metric('ardiff_engine_seconds_total');
      const { wallSeconds, encodeSeconds } = await server.generate(bodyOf(i));
      const engineSeconds = (await server.metric('ardiff_engine_seconds_total')) - before;
      engine.push(engineSeconds);
      beside.push(wallSeconds - encodeSeconds - engineSeconds);
    }
    const overhead = spreadOf(ratiosOf(beside, engine));
    const wallMany: number[] = [];
    const engineMany: number[] = [];
    await closedLoop(server, MANY, 1);
    for (let i = 0; i < bench.options.rounds; i += 1) {
      const before = await server.metric('ardiff_engine_seconds_total');
      wallMany.push((MANY * MANY_EACH) / (await closedLoop(server, MANY, MANY_EACH)));
      engineMany.push((await server.metric('ardiff_engine_seconds_total')) - before);
    }
    const overheadMany = spreadOf(ratiosOf(wallMany, engineMany).map((ratio) => ratio - 1));
    const rows: Row[] = [
      { what: 'engine steps of one picture', measured: show(spreadOf(engine), 'ms', 1e3), aim: '' },
      { what: 'request beside them, encoding excluded', measured: show(spreadOf(beside), 'ms', 1e3), aim: '' },
      { what: 'for comparison: GET /healthz', measured: show(spreadOf(nothing), 'ms', 1e3), aim: '' },
      { what: 'overhead, one request at a time', measured: show(overhead, '%', 100), aim: `≤ ${AIM * 100}%`, reached: overhead.median <= AIM },
      {
        what: `overhead, ${MANY} clients: time in which the engine does not step, encoding included`,
        measured: show(overheadMany, '%', 100),
        aim: `≤ ${AIM * 100}%`,
        reached: overheadMany.median <= AIM,
      },
    ];
    return { title: 'server overhead over engine time', rows, figures: { engine, beside, nothing, overhead, wallMany, engineMany, overheadMany } };
  } finally {
    await server.stop();
  }
}

/**
 * Pictures per second with 1, 4 and 16 clients that each ask for one picture after another; and how much of the
 * processor's multiply-adds that is, because what one client alone uses of it bounds what more can gain.
 */
export async function benchThroughput(bench: Bench): Promise<PartReport> {
  const AIM = 3;
  const CLIENTS = [1, 4, MANY];
  const PICTURES_PER_CLIENT: Readonly<Record<number, number>> = { 1: 24, 4: 12, [MANY]: MANY_EACH };
  const operations = operationsPerPicture(openTextModel(bench.options.modelDirectory), 2);
  const probe = LineProcess.start(compilePeakProbe(bench.scratch), [String(bench.info.threads), bench.info.dtype]);
  const server = await Server.start(bench.options);
  try {
    const peaks: number[] = [];
    const rates = new Map<number, number[]>(CLIENTS.map((clients) => [clients, []]));
    await closedLoop(server, MANY, 1);
    for (let round = 0; round < Math.max(3, Math.ceil(bench.options.rounds / 2)); round += 1) {
      peaks.push(Number(await probe.ask('')));
      for (const clients of CLIENTS) rates.get(clients)!.push(await closedLoop(server, clients, PICTURES_PER_CLIENT[clients]!));
    }
    const gain = spreadOf(ratiosOf(rates.get(16)!, rates.get(1)!));
    const rows: Row[] = CLIENTS.map((clients) => ({
      what: `${clients} concurrent request${clients === 1 ? '' : 's'}`,
      measured: show(spreadOf(rates.get(clients)!), 'images/s'),
      aim: '',
    }));
    rows.push({ what: '16 against 1', measured: show(gain, 'x'), aim: `≥ ${AIM}x`, reached: gain.median >= AIM });
    const shareOf = (clients: number) => spreadOf(rates.get(clients)!.map((rate, round) => (rate * operations) / peaks[round]!));
    const shares = Object.fromEntries(CLIENTS.map((clients) => [clients, shareOf(clients)]));
    const bound = spreadOf(ratiosOf(peaks, rates.get(1)!.map((rate) => rate * operations)));
    rows.push(
      { what: `multiply-adds of the processor, ${bench.info.dtype}`, measured: show(spreadOf(peaks), 'GFLOP/s', 1e-9), aim: '' },
      ...CLIENTS.map((clients) => ({ what: `share of them, ${clients} client${clients === 1 ? '' : 's'}`, measured: show(shares[clients]!, '%', 100), aim: '' })),
      { what: 'bound of the gain: all of them against 1 client', measured: show(bound, 'x'), aim: '' },
    );
    const figures = { imagesPerSecond: Object.fromEntries(rates), gain, operationsPerPicture: operations, peaks, shares, bound };
    return { title: 'pictures per second over HTTP', rows, figures };
  } finally {
    probe.stop();
    await server.stop();
  }
}

async function closedLoop(server: Server, clients: number, picturesEach: number): Promise<number> {
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      for (let i = 0; i < picturesEach; i += 1) await server.generate(bodyOf(client * picturesEach + i));
    }),
  );
  return (clients * picturesEach) / ((performance.now() - begin) / 1000);
}

/** Start of the process to /readyz, of a built tree. */
export async function benchReady(bench: Bench): Promise<PartReport> {
  const AIM_SECONDS = 2;
  const seconds: number[] = [];
  for (let round = 0; round < bench.options.rounds; round += 1) {
    const server = await Server.start(bench.options);
    seconds.push(server.readySeconds);
    await server.stop();
  }
  const spread = spreadOf(seconds);
  const rows: Row[] = [{ what: 'start to ready', measured: show(spread, 's'), aim: `≤ ${AIM_SECONDS} s`, reached: spread.median <= AIM_SECONDS }];
  return { title: 'ready after start', rows, figures: { seconds } };
}
