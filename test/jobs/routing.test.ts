import { describe, expect, it } from 'vitest';
import { isBetterAt, route, type Candidate } from '../../src/jobs/routing.js';

const worker = (left: Record<string, number>): Candidate => ({ left: new Map(Object.entries(left)) });

describe('route', () => {
  it('takes the only one, and the first of equals', () => {
    expect(route('m', [worker({ m: 9 })])).toBe(0);
    expect(route('m', [worker({}), worker({}), worker({})])).toBe(0);
    expect(route('m', [worker({ m: 5, n: 1 }), worker({ n: 1, m: 5 })])).toBe(0);
  });

  it('takes the one that has least of the model left', () => {
    expect(route('m', [worker({ m: 64 }), worker({ m: 63 }), worker({ m: 65 })])).toBe(1);
    expect(route('m', [worker({ m: 1 }), worker({})])).toBe(1);
  });

  it('looks at other models between equals only: their units cost something else', () => {
    expect(route('m', [worker({ n: 10 }), worker({ n: 9 })])).toBe(1);
    expect(route('m', [worker({ m: 3 }), worker({ m: 2, n: 1000 })])).toBe(1);
    expect(route('n', [worker({ m: 3 }), worker({ m: 2, n: 1000 })])).toBe(0);
  });

  it('spreads equal jobs evenly', () => {
    const left = [0, 0, 0];
    for (let i = 0; i < 30; i += 1) left[route('m', left.map((m) => worker({ m })))]! += 64;
    expect(left).toEqual([640, 640, 640]);
  });
});

describe('isBetterAt', () => {
  it('is where less of the model is left than here, with the job itself', () => {
    expect(isBetterAt('m', 64, worker({ m: 192 }), worker({ m: 64 }))).toBe(true);
    expect(isBetterAt('m', 64, worker({ m: 128 }), worker({ m: 64 }))).toBe(false);
    expect(isBetterAt('m', 64, worker({ m: 64, n: 500 }), worker({}))).toBe(false);
    expect(isBetterAt('m', 64, worker({ m: 65 }), worker({ n: 500 }))).toBe(true);
  });

  it('passes no job to and fro', () => {
    for (let from = 0; from < 300; from += 7) {
      for (let to = 0; to < 300; to += 7) {
        if (from < 64 || !isBetterAt('m', 64, worker({ m: from }), worker({ m: to }))) continue;
        expect(isBetterAt('m', 64, worker({ m: to + 64 }), worker({ m: from - 64 }))).toBe(false);
      }
    }
  });
});
