import { expect, it } from 'vitest';
import { PumpQueue } from '../../../src/gateway/stream/pump-queue.js';
import { until } from '../../support/until.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

it('serves everybody in turn, a few milliseconds of each turn of the loop', async () => {
  const queue = new PumpQueue();
  const served: number[] = [];
  for (let i = 0; i < 10; i += 1) {
    queue.add(() => {
      busy(2);
      served.push(i);
      return false;
    });
  }
  await turn();
  const first = served.length;
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(10);
  while (served.length < 10) await turn();
  expect(served).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

it('lets who has more wait behind the others, and serves equal ones once', async () => {
  const queue = new PumpQueue();
  const served: string[] = [];
  let left = 3;
  const long = (): boolean => {
    served.push('long');
    busy(5);
    left -= 1;
    return left > 0;
  };
  const short = (): boolean => {
    served.push('short');
    return false;
  };
  for (const serve of [long, short, short]) queue.add(serve);
  for (let i = 0; i < 10; i += 1) await turn();
  expect(served).toEqual(['long', 'short', 'long', 'long']);
});

it('serves who may wait with the next tick, once for all that came until then', async () => {
  const queue = new PumpQueue();
  let served = 0;
  const serve = (): boolean => {
    served += 1;
    return false;
  };
  for (let i = 0; i < 5; i += 1) queue.addLater(serve);
  await turn();
  expect(served).toBe(0);
  await until(() => served > 0);
  await turn();
  expect(served).toBe(1);
});

it('forgets who is gone', async () => {
  const queue = new PumpQueue();
  let served = 0;
  const serve = (): boolean => {
    served += 1;
    return false;
  };
  queue.add(serve);
  queue.remove(serve);
  await turn();
  expect(served).toBe(0);
});
