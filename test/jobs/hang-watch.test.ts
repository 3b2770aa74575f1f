import { describe, expect, it } from 'vitest';
import { hangLimits, HangWatch } from '../../src/jobs/hang-watch.js';

const ticks = (watch: HangWatch, count: number): boolean[] => Array.from({ length: count }, () => watch.tick());

describe('HangWatch', () => {
  it('is silent for its limit, and a message starts it anew', () => {
    const watch = new HangWatch(hangLimits(3));
    expect(ticks(watch, 3)).toEqual([false, false, false]);
    watch.heard();
    expect(ticks(watch, 4)).toEqual([false, false, false, true]);
  });

  it('lets a step take ten times as long, as long as the worker answers', () => {
    const watch = new HangWatch(hangLimits(3));
    watch.heard();
    watch.inStep(30);
    expect(watch.tick()).toBe(false);
    watch.heard();
    watch.inStep(30.5);
    expect(watch.tick()).toBe(true);
  });
});
