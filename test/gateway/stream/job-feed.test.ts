import { describe, expect, it } from 'vitest';
import { JobFeed, type FeedOptions } from '../../../src/gateway/stream/job-feed.js';
import { EmbeddedBackend } from '../../../src/jobs/embedded.js';
import type { JobEvent } from '../../../src/jobs/job.js';
import { DONE, JOB_REQUEST, ManualWorker, picture, preview, STARTED, tokens } from '../../support/manual-worker.js';
import { randomIntegers } from '../../support/specs.js';

function play(options: Partial<FeedOptions> = {}) {
  const worker = new ManualWorker();
  const { job } = new EmbeddedBackend(worker, { capacity: 4 }).submit({ ...JOB_REQUEST, gridHeight: 10, gridWidth: 100, seeds: [1, 2] });
  let time = 0;
  const feed = new JobFeed(job, { after: 0, preview: {}, window: Infinity, etaMs: () => null, onPreview: () => undefined, now: () => time, ...options });
  const take = (): { t: string; [field: string]: unknown }[] => {
    const out = [];
    for (let next = feed.next(); next !== null; next = feed.next()) out.push(next.text);
    return out;
  };
  const emit = (...events: JobEvent[]): void => {
    for (const event of events) worker.emits[0]!(event);
  };
  return { job, feed, take, emit, pass: (ms: number) => (time += ms) };
}

describe('JobFeed', () => {
  it('merges what a slow reader missed: tokens by image, progress into the latest', () => {
    const { emit, take } = play();
    emit(STARTED);
    take();
    emit(tokens(0, 10), tokens(10, 20), tokens(0, 5, 1), tokens(20, 30));
    const frames = take();
    expect(frames.map(({ t }) => t)).toEqual(['tokens', 'tokens', 'progress']);
    expect(frames.slice(0, 2).map(({ image, from, to }) => [image, from, to])).toEqual([[0, 0, 30], [1, 0, 5]]);
    // Event 5 is told by the second frame: who has only the first must not resume after it.
    expect(frames.map(({ seq }) => seq)).toEqual([4, 6, 6]);
  });

  it('keeps what was accepted only where all parts say it', () => {
    const { emit, take } = play();
    take();
    const drafted = (from: number, accepted?: boolean[]): JobEvent => ({ kind: 'tokens', image: 0, from, to: from + 2, total: 1000, ...(accepted === undefined ? {} : { accepted }) });
    emit(drafted(0, [true, false]), drafted(2, [true, true]));
    expect(take()[0]).toMatchObject({ accepted: [true, false, true, true] });
    emit(drafted(4, [true, false]), drafted(6));
    expect(take()[0]).not.toHaveProperty('accepted');
  });

  it('never leaves out pictures and the end, however late it is read', () => {
    const { emit, take, feed } = play();
    emit(STARTED, tokens(0, 500), preview('rows', 0), picture(0), tokens(0, 900, 1), preview('rows', 0, { image: 1 }), preview('rows', 1, { image: 1 }), picture(1), DONE);
    expect(take().map(({ t }) => t)).toEqual(['queued', 'started', 'progress', 'tokens', 'progress', 'preview', 'image', 'progress', 'tokens', 'progress', 'preview', 'image', 'progress', 'completed']);
    expect(feed.isOver).toBe(true);
  });

  it('goes on with the fraction where the client left off', () => {
    const { emit, job, take } = play();
    emit(STARTED, tokens(0, 1000));
    take();
    const later = play({ after: 0 });
    later.emit(STARTED, tokens(0, 500));
    const fraction = later.take().at(-1)!['fraction'] as number;
    expect(fraction).toBeCloseTo(0.24, 2);
    const resumed = new JobFeed(job, { after: 3, preview: null, window: 1, etaMs: () => null, onPreview: () => undefined, now: () => 0 });
    emit(tokens(0, 10, 1));
    const frames = [resumed.next(), resumed.next()].map((next) => next?.text as { fraction?: number });
    expect(frames[1]?.fraction).toBeGreaterThan(0.48);
  });

  it('spaces partial pictures as asked, never strips', () => {
    const { emit, take, pass } = play({ preview: { min_interval_ms: 100 } });
    emit(STARTED);
    take();
    const shown = (event: JobEvent): boolean => {
      emit(event);
      return take().length > 0;
    };
    expect([shown(preview('full', 0)), shown(preview('full', 1)), shown(preview('rows', 0)), shown(preview('rows', 1))]).toEqual([true, false, true, true]);
    pass(100);
    expect(shown(preview('full', 2))).toBe(true);
  });

  it('holds previews back without credit, and releases the newest with it', () => {
    const { emit, take, feed } = play({ window: 1 });
    emit(STARTED, preview('rows', 0));
    const first = take().at(-1)!;
    emit(preview('rows', 1), tokens(0, 1), preview('rows', 2));
    expect(take().map(({ t }) => t)).toEqual(['tokens', 'progress']);
    feed.ack(first['seq'] as number);
    expect(take()).toMatchObject([{ t: 'preview', n: 2 }]);
  });
});

describe('JobFeed after a cut', () => {
  /** Token events of two pictures, in any order and pace, and the client's view of them over one cut. */
  function resumeAt(seed: number) {
    const below = randomIntegers(seed);
    const { job, emit, feed } = play();
    const told: { t: string; [field: string]: unknown }[] = [];
    const read = (from: JobFeed, most: number): void => {
      for (let next = from.next(); next !== null; next = from.next()) {
        told.push(next.text);
        if (told.length >= most) return;
      }
    };
    const cut = 1 + below(30);
    const drawn = [0, 0];
    let current = feed;
    emit(STARTED);
    for (let step = 0; step < 60; step += 1) {
      const image = below(2);
      const to = drawn[image]! + 1 + below(3);
      emit(tokens(drawn[image]!, to, image));
      drawn[image] = to;
      // Mostly nothing is read, so that there is something to merge.
      if (below(4) !== 0) continue;
      read(current, current === feed ? cut : Infinity);
      if (current === feed && told.length >= cut) {
        const after = Math.max(...told.map((frame) => frame['seq'] as number));
        current = new JobFeed(job, { after, preview: {}, window: Infinity, etaMs: () => null, onPreview: () => undefined, now: () => 0 });
      }
    }
    for (const event of [picture(0), picture(1), DONE]) emit(event);
    read(current, Infinity);
    return { told, drawn };
  }

  it('has every token, each picture once, and no progress backwards', () => {
    for (let seed = 0; seed < 200; seed += 1) check(seed);
  });

  function check(seed: number): void {
    const { told, drawn } = resumeAt(seed);
    for (const image of [0, 1]) {
      let known = 0;
      for (const frame of told.filter(({ t, image: of }) => t === 'tokens' && of === image)) {
        expect(frame['from']).toBeLessThanOrEqual(known);
        known = Math.max(known, frame['to'] as number);
      }
      expect(known).toBe(drawn[image]);
    }
    expect(told.filter(({ t }) => t === 'image').map(({ image }) => image)).toEqual([0, 1]);
    const ascending = (values: number[]): void => {
      expect(values).toEqual([...values].sort((a, b) => a - b));
    };
    ascending(told.map((frame) => frame['seq'] as number));
    ascending(told.filter(({ t }) => t === 'progress').map((frame) => frame['fraction'] as number));
  }
});
