import { describe, expect, it } from 'vitest';
import { Retention } from '../../src/jobs/retention.js';
import { ManualClock } from '../support/manual-clock.js';

function retention(limits: { maxJobs?: number; maxBytes?: number } = {}): { clock: ManualClock; kept: Retention; forgotten: string[] } {
  const clock = new ManualClock();
  const forgotten: string[] = [];
  const kept = new Retention(clock, { keepMs: 1000, maxJobs: 100, maxBytes: 1000, ...limits }, (id) => forgotten.push(id));
  return { clock, kept, forgotten };
}

describe('Retention', () => {
  it('forgets each job after its time, with one timer for all', () => {
    const { clock, kept, forgotten } = retention();
    kept.add('a', 1);
    clock.advance(400);
    kept.add('b', 1);
    expect(clock.pending).toBe(1);
    clock.advance(599);
    expect(forgotten).toEqual([]);
    clock.advance(1);
    expect(forgotten).toEqual(['a']);
    clock.advance(400);
    expect([forgotten, clock.pending]).toEqual([['a', 'b'], 0]);
  });

  it('keeps a number of jobs', () => {
    const { kept, forgotten } = retention({ maxJobs: 2 });
    for (const id of ['a', 'b', 'c', 'd']) kept.add(id, 0);
    expect(forgotten).toEqual(['a', 'b']);
  });

  it('keeps an amount of bytes, and the newest job whatever its size', () => {
    const { kept, forgotten } = retention();
    kept.add('a', 600);
    kept.add('b', 400);
    expect(forgotten).toEqual([]);
    kept.add('c', 500);
    expect(forgotten).toEqual(['a']);
    kept.add('d', 5000);
    expect(forgotten).toEqual(['a', 'b', 'c']);
    kept.add('e', 1);
    expect(forgotten).toEqual(['a', 'b', 'c', 'd']);
  });
});
