import { describe, expect, it } from 'vitest';
import type { JobEvent, JobRequest } from '../../src/jobs/job.js';
import { advance, fractionOf, startProgress, type Progress, type ProgressState } from '../../src/jobs/progress.js';
import { JOB_REQUEST, picture } from '../support/manual-worker.js';
import { randomIntegers } from '../support/specs.js';

const SHAPE: JobRequest = { ...JOB_REQUEST, gridHeight: 4, gridWidth: 4, seeds: [1, 2] };
const started: JobEvent = { kind: 'started', worker: 'w', batchSize: 1 };
const tokens = (image: number, from: number, to: number): JobEvent => ({ kind: 'tokens', image, from, to, total: 16 });

/** Events one millisecond apart. */
function follow(events: readonly JobEvent[]): { state: ProgressState; shown: Progress[] } {
  let state = startProgress(SHAPE);
  const shown: Progress[] = [];
  for (const [index, event] of events.entries()) {
    const step = advance(state, { seq: index + 1, ts: 1000 + index, event });
    state = step.state;
    if (step.progress !== null) shown.push(step.progress);
  }
  return { state, shown };
}

describe('progress', () => {
  it('goes through the stages up to 1', () => {
    const { shown } = follow([{ kind: 'queued' }, started, tokens(0, 0, 8), tokens(1, 0, 16), picture(1), tokens(0, 8, 16), picture(0)]);
    expect(shown.map(({ stage, step, total, image: which }) => [stage, step, total, which])).toEqual([
      ['prefill', 0, 1, null],
      ['ar', 8, 16, 0],
      ['ar', 16, 16, 1],
      ['encode', 1, 2, 1],
      ['ar', 16, 16, 0],
      ['encode', 2, 2, 0],
    ]);
    expect(shown[1]!.fraction).toBeCloseTo(0.24);
    expect(shown.at(-1)).toMatchObject({ fraction: 1, etaMs: 0 });
  });

  it('estimates the rest by the pace so far', () => {
    const { shown } = follow([started, tokens(0, 0, 4), tokens(0, 4, 8)]);
    expect(shown[0]!.etaMs).toBeNull();
    // 24 % in 2 ms.
    expect(shown[2]!.etaMs).toBe(Math.round((2 * 0.76) / 0.24));
  });

  it('shows nothing where nothing moved: a replay after a crash, a picture twice, an image that is not of the job', () => {
    const { shown } = follow([started, tokens(0, 0, 8), started, tokens(0, 0, 4), tokens(0, 4, 8), picture(1), picture(1), tokens(7, 0, 3), picture(7)]);
    expect(shown.map(({ stage }) => stage)).toEqual(['prefill', 'ar', 'encode']);
  });

  it('never falls, and ends the same whatever was trimmed on the way', () => {
    for (let seed = 0; seed < 50; seed += 1) {
      const below = randomIntegers(seed);
      const drawn = [0, 0];
      const events: JobEvent[] = [started];
      for (let i = 0; i < 30; i += 1) {
        const which = below(2);
        // A worker that dies now and then begins the picture anew.
        const from = below(8) === 0 ? 0 : drawn[which]!;
        drawn[which] = Math.min(16, from + 1 + below(4));
        events.push(drawn[which] === 16 ? picture(which) : tokens(which, from, drawn[which]));
      }
      const { state, shown } = follow(events);
      const fractions = shown.map(({ fraction }) => fraction);
      expect([...fractions].sort((a, b) => a - b)).toEqual(fractions);
      const highest = new Map<string, number>();
      for (const [index, event] of events.entries()) {
        if (event.kind === 'tokens' && event.to >= furthest(events, event.image)) highest.set(`${event.image}`, index);
      }
      const trimmed = events.filter((event, index) => event.kind !== 'tokens' || [...highest.values()].includes(index));
      expect(fractionOf(follow(trimmed).state)).toBe(fractionOf(state));
    }
  });
});

/** The furthest a picture got. */
function furthest(events: readonly JobEvent[], which: number): number {
  return Math.max(...events.map((event) => (event.kind === 'tokens' && event.image === which ? event.to : 0)));
}
