import { beforeEach, describe, expect, it } from 'vitest';
import { Attachments } from '../../src/jobs/attachments.js';
import { ManualClock } from '../support/manual-clock.js';

let clock: ManualClock;
let abandoned: number;
let attachments: Attachments;

beforeEach(() => {
  clock = new ManualClock();
  abandoned = 0;
  attachments = new Attachments(clock, () => {
    abandoned += 1;
  });
});

describe('Attachments', () => {
  it('abandons at once when the last one leaves with "cancel", and not before', () => {
    const [first, second] = [attachments.attach('cancel'), attachments.attach('cancel')];
    first();
    first();
    expect(abandoned).toBe(0);
    second();
    expect(abandoned).toBe(1);
  });

  it('goes by the most patient policy, whoever leaves last', () => {
    const [cancelling, patient] = [attachments.attach('cancel'), attachments.attach({ graceMs: 1000 })];
    patient();
    cancelling();
    clock.advance(999);
    expect(abandoned).toBe(0);
    // Who comes back for less does not shorten it.
    attachments.attach({ graceMs: 10 })();
    clock.advance(999);
    expect(abandoned).toBe(0);
    clock.advance(1);
    expect(abandoned).toBe(1);
  });

  it('never abandons what was detached once', () => {
    attachments.attach('detach')();
    attachments.attach('cancel')();
    attachments.attach({ graceMs: 10 })();
    clock.advance(1e9);
    expect([abandoned, clock.pending]).toEqual([0, 0]);
  });

  it('waits out a grace, unless somebody comes back', () => {
    attachments.attach({ graceMs: 1000 })();
    clock.advance(999);
    const leave = attachments.attach({ graceMs: 1000 });
    clock.advance(5000);
    expect(abandoned).toBe(0);
    leave();
    clock.advance(999);
    expect(abandoned).toBe(0);
    clock.advance(1);
    expect(abandoned).toBe(1);
  });

  it('decides nothing after the end of the job, and leaves no timer behind', () => {
    const leave = attachments.attach('cancel');
    attachments.attach({ graceMs: 1000 })();
    attachments.end();
    leave();
    attachments.attach('cancel')();
    expect([abandoned, clock.pending]).toEqual([0, 0]);
  });
});
