import { describe, expect, it } from 'vitest';
import { predictWaitSeconds, type Load } from '../../src/jobs/queue-eta.js';
import { randomIntegers } from '../support/specs.js';

const IDLE: Load = { running: [], waiting: [], slots: 2, tokensPerSecond: 20 };

describe('predictWaitSeconds', () => {
  it.each<[string, Partial<Load>, number]>([
    ['nothing to do', {}, 0],
    ['one slot free', { running: [64] }, 0],
    ['one slot free and one on its way into the other', { waiting: [64] }, 0],
    // Each of two slots draws 10 tokens a second.
    ['all slots taken', { running: [64, 30] }, 3],
    ['both slots about to be taken', { waiting: [64, 50] }, 5],
    ['a queue', { running: [10, 20], waiting: [30, 40] }, 4],
    ['more running than slots, after a change of settings', { running: [10, 20, 30] }, 1],
  ])('%s', (_name, change, seconds) => {
    expect(predictWaitSeconds({ ...IDLE, ...change })).toBeCloseTo(seconds);
  });

  it('agrees with playing the queue token by token', () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const below = randomIntegers(seed);
      const slots = 1 + below(6);
      const running = Array.from({ length: below(slots + 1) }, () => 1 + below(50));
      const waiting = Array.from({ length: below(20) }, () => 1 + below(50));
      const tokensPerSecond = 1 + below(100);
      const left = [...running];
      const queue = [...waiting];
      let time = 0;
      for (;;) {
        while (left.length < slots && queue.length > 0) left.push(queue.shift()!);
        if (left.length < slots) break;
        time += 1;
        for (let i = left.length - 1; i >= 0; i -= 1) if ((left[i]! -= 1) === 0) left.splice(i, 1);
      }
      expect(predictWaitSeconds({ running, waiting, slots, tokensPerSecond })).toBeCloseTo((time * slots) / tokensPerSecond);
    }
  });
});
