import { beforeEach, describe, expect, it } from 'vitest';
import { EventOutbox, type Addressed } from '../../src/worker/event-outbox.js';
import type { WireEvent } from '../../src/jobs/ipc.js';
import { ManualClock } from '../support/manual-clock.js';
import { picture, STARTED, tokens } from '../support/manual-worker.js';

const DONE: WireEvent = { kind: 'succeeded', result: { timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };

let clock: ManualClock;
let messages: Addressed[][];
let outbox: EventOutbox;

beforeEach(() => {
  clock = new ManualClock();
  messages = [];
  outbox = new EventOutbox((events) => messages.push(events), clock);
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const kinds = (): string[][] => messages.map((events) => events.map(({ id, event }) => `${id} ${event.kind}`));

describe('EventOutbox', () => {
  it('sends what happens in one turn as one message', async () => {
    for (const id of [1, 2]) outbox.watch(id, true);
    outbox.push(1, tokens(0, 1));
    outbox.push(2, tokens(0, 1));
    expect(messages).toEqual([]);
    await turn();
    outbox.push(1, tokens(1, 2));
    await turn();
    expect(messages).toEqual([[{ id: 1, event: tokens(0, 1) }, { id: 2, event: tokens(0, 1) }], [{ id: 1, event: tokens(1, 2) }]]);
  });

  it('needs two messages for a job that nobody watches: its start, and everything else', async () => {
    outbox.push(1, STARTED);
    await turn();
    for (let i = 0; i < 64; i += 1) {
      outbox.push(1, tokens(i, i + 1));
      await turn();
    }
    outbox.push(1, picture());
    outbox.push(1, DONE);
    await turn();
    expect(kinds()).toEqual([['1 started'], ['1 tokens', '1 image', '1 succeeded']]);
    expect(messages[1]![0]!.event).toEqual(tokens(0, 64));
    clock.advance(1000);
    await turn();
    expect(messages).toHaveLength(2);
  });

  it('tells the progress of an unwatched job four times a second, all images in one message', async () => {
    outbox.push(1, tokens(0, 1, 0));
    outbox.push(1, tokens(0, 1, 1));
    outbox.push(1, tokens(1, 5, 0));
    outbox.push(2, tokens(0, 3));
    clock.advance(249);
    await turn();
    expect(messages).toEqual([]);
    clock.advance(1);
    await turn();
    expect(messages).toEqual([[{ id: 1, event: tokens(0, 5, 0) }, { id: 1, event: tokens(0, 1, 1) }, { id: 2, event: tokens(0, 3) }]]);
    expect(clock.pending).toBe(0);
  });

  it('tells what it held as soon as somebody watches, and each step from then on', async () => {
    outbox.push(1, tokens(0, 3));
    outbox.push(1, tokens(3, 4));
    outbox.watch(1, true);
    outbox.push(1, tokens(4, 5));
    await turn();
    expect(messages).toEqual([[{ id: 1, event: tokens(0, 4) }, { id: 1, event: tokens(4, 5) }]]);
    outbox.watch(1, false);
    outbox.push(1, tokens(5, 6));
    await turn();
    expect(messages).toHaveLength(1);
  });

  it('joins which drafts were taken, and does not guess where a piece does not say', async () => {
    outbox.push(1, { ...tokens(0, 2), accepted: [true, false] });
    outbox.push(1, { ...tokens(2, 3), accepted: [true] });
    outbox.push(1, tokens(3, 4));
    outbox.push(1, tokens(4, 5));
    clock.advance(250);
    await turn();
    expect(messages.flat().map(({ event }) => event)).toEqual([{ ...tokens(0, 3), accepted: [true, false, true] }, tokens(3, 5)]);
  });

  it('holds nothing back of a job that is cancelled', async () => {
    outbox.push(1, tokens(0, 3));
    outbox.forget(1);
    clock.advance(1000);
    await turn();
    expect(messages).toEqual([]);
  });
});
