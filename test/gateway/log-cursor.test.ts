import { describe, expect, it } from 'vitest';
import { LogCursor, type News } from '../../src/gateway/log-cursor.js';
import { JobLog } from '../../src/jobs/event-log.js';
import type { JobEvent } from '../../src/jobs/job.js';
import { JOB_REQUEST, picture, preview, STARTED } from '../support/manual-worker.js';

const request = { ...JOB_REQUEST, gridHeight: 10, gridWidth: 10 };
const drawn = (to: number): JobEvent => ({ kind: 'tokens', image: 0, from: 0, to, total: 100 });

function newLog(events: readonly JobEvent[] = []): JobLog {
  const log = new JobLog('e', () => 1000);
  for (const event of events) log.append(event);
  return log;
}

const all = (cursor: LogCursor): News[] => {
  const told: News[] = [];
  for (let news = cursor.next(); news !== null; news = cursor.next()) told.push(news);
  return told;
};

const shown = (told: readonly News[]): unknown[] => told.map((news) => (news.kind === 'event' ? news.entry.event.kind : news.progress.step));

describe('LogCursor', () => {
  it('tells everything to a reader that keeps up', () => {
    const log = newLog();
    const cursor = new LogCursor({ log, request });
    const told = [STARTED, drawn(1), drawn(2), preview('full', 0), picture()].flatMap((event) => {
      log.append(event);
      return shown(all(cursor));
    });
    expect(told).toEqual(['started', 0, 1, 2, 'preview', 'image', 1]);
    expect(cursor.next()).toBeNull();
  });

  it('merges progress for one that was away, without moving it past other events', () => {
    const log = newLog([STARTED, drawn(1), drawn(2), preview('full', 0), drawn(3), drawn(4), picture()]);
    const told = all(new LogCursor({ log, request }));
    expect(shown(told)).toEqual(['started', 2, 'preview', 4, 'image', 1]);
    expect(told.map((news) => (news.kind === 'event' ? news.entry.seq : news.seq))).toEqual([1, 3, 4, 6, 7, 7]);
  });

  it('starts after what its reader has, and knows how far that was', () => {
    const log = newLog([STARTED, drawn(50), drawn(20)]);
    const cursor = new LogCursor({ log, request }, 2);
    expect(all(cursor)).toEqual([]);
    log.append(drawn(60));
    expect(shown(all(cursor))).toEqual([60]);
  });

  it('makes up for history that was trimmed', () => {
    const log = newLog([STARTED, ...Array.from({ length: 600 }, (_, i) => drawn(1 + (i % 90)))]);
    const cursor = new LogCursor({ log, request });
    expect(shown(all(cursor))).toEqual(['started', 90]);
  });
});
