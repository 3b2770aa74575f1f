import { beforeEach, describe, expect, it } from 'vitest';
import { StepClock } from '../../src/engine/step-clock.js';

let nowMs: number;
let clock: StepClock;

beforeEach(() => {
  nowMs = 500;
  clock = new StepClock(() => nowMs);
});

/** Steps handed over at once; the engine settles one after the other. */
function handOver(count: number): (() => Promise<void>)[] {
  return Array.from({ length: count }, () => {
    let settle!: () => void;
    const done = clock.time(() => new Promise<void>((resolve) => (settle = resolve)));
    return () => {
      settle();
      return done;
    };
  });
}

describe('StepClock', () => {
  it('counts from the handing over, and nothing while the engine rests', async () => {
    expect(clock.seconds).toBe(0);
    const [step] = handOver(1);
    nowMs += 3000;
    expect(clock.seconds).toBe(3);
    await step!();
    nowMs += 4000;
    expect(clock.seconds).toBe(0);
  });

  it('counts for a step that waited behind others only its own time', async () => {
    const [first, second, third] = handOver(3);
    nowMs += 20_000;
    expect(clock.seconds).toBe(20);
    await first!();
    nowMs += 20_000;
    expect(clock.seconds).toBe(20);
    await second!();
    nowMs += 1000;
    expect(clock.seconds).toBe(1);
    await third!();
  });

  it('goes on after a step that failed', async () => {
    const failed = clock.time(() => Promise.reject(new Error('no memory')));
    const [next] = handOver(1);
    nowMs += 5000;
    await expect(failed).rejects.toThrow('no memory');
    expect(clock.seconds).toBe(0);
    nowMs += 2000;
    expect(clock.seconds).toBe(2);
    await next!();
    await expect(clock.time(() => { throw new Error('not a plan'); })).rejects.toThrow('not a plan');
    expect(clock.seconds).toBe(0);
  });
});
