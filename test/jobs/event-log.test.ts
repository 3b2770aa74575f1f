import { describe, expect, it } from 'vitest';
import { JobLog, type LogEntry } from '../../src/jobs/event-log.js';
import { DONE, picture, preview, STARTED, tokens } from '../support/manual-worker.js';

const newLog = (onWatched?: (watched: boolean) => void): JobLog => new JobLog('e1', () => 7, onWatched);
const seqs = (entries: readonly LogEntry[]): number[] => entries.map(({ seq }) => seq);

describe('JobLog', () => {
  it('numbers entries from 1 and replays those after a seq, in order', () => {
    const log = newLog();
    expect([log.lastSeq, log.since(0)]).toEqual([0, { entries: [], gap: null }]);
    for (const event of [{ kind: 'queued' } as const, STARTED, tokens(0, 1), preview('full', 0), picture(), DONE]) log.append(event);
    expect(seqs(log.since(0).entries)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(log.since(2)).toMatchObject({ entries: [{ seq: 3, ts: 7, event: tokens(0, 1) }, {}, {}, {}], gap: null });
    // A seq from nowhere is no reason to fail: nothing is after it.
    expect(log.since(99)).toEqual({ entries: [], gap: null });
    expect(seqs(log.since(-5).entries)).toHaveLength(6);
  });

  it('keeps the newest token event of each image, however old: how far it is stays known', () => {
    const log = newLog();
    log.append(tokens(0, 5, 3));
    log.append(tokens(5, 9, 3));
    for (let i = 0; i < 400; i += 1) log.append(tokens(i, i + 1));
    expect(log.since(0).entries[0]).toMatchObject({ seq: 2, event: { image: 3, to: 9 } });
    expect(log.since(0).entries).toHaveLength(257);
    log.append(tokens(9, 10, 3));
    expect(log.since(0).entries.filter(({ event }) => event.kind === 'tokens' && event.image === 3)).toHaveLength(1);
  });

  it('keeps the last 256 token events and says which range is gone', () => {
    const log = newLog();
    log.append({ kind: 'queued' });
    log.append(STARTED);
    for (let i = 0; i < 300; i += 1) log.append(tokens(i, i + 1));
    const all = log.since(0);
    expect(all.gap).toEqual({ from: 3, to: 46 });
    expect(seqs(all.entries)).toEqual([1, 2, ...Array.from({ length: 256 }, (_, i) => 47 + i)]);
    expect(log.since(10).gap).toEqual({ from: 11, to: 46 });
    expect(log.since(46).gap).toBeNull();
  });

  it('keeps the newest preview of each image and kind, and counts only what it holds', () => {
    const log = newLog();
    log.append(preview('rows', 0, { bytes: 10 }));
    log.append(preview('full', 0, { bytes: 100 }));
    log.append(preview('rows', 0, { image: 1, bytes: 1000 }));
    log.append(preview('rows', 1, { bytes: 20 }));
    log.append(preview('full', 1, { bytes: 200 }));
    expect(seqs(log.since(0).entries)).toEqual([3, 4, 5]);
    expect(log.since(0).gap).toEqual({ from: 1, to: 2 });
    expect(log.since(2).gap).toBeNull();
    log.append(picture(0, 5));
    expect(log.bytes - log.since(0).entries.length * 400).toBe(1000 + 20 + 200 + 5);
  });

  it('keeps lifecycle and pictures whatever else comes', () => {
    const log = newLog();
    log.append({ kind: 'queued' });
    log.append(picture(0));
    for (let i = 0; i < 1000; i += 1) log.append(tokens(i, i + 1));
    log.append(picture(1));
    log.append(DONE);
    const kinds = log.since(0).entries.map(({ event }) => event.kind).filter((kind) => kind !== 'tokens');
    expect(kinds).toEqual(['queued', 'image', 'image', 'succeeded']);
    expect(log.since(0).entries).toHaveLength(4 + 256);
  });

  it('is closed by a final event, and takes nothing after it', () => {
    const log = newLog();
    log.append({ kind: 'queued' });
    expect(log.closed).toBe(false);
    log.append({ kind: 'cancelled', reason: 'api' });
    expect(log.closed).toBe(true);
    expect(() => {
      log.append(tokens(0, 1));
    }).toThrow('after the end');
  });

  it('tells listeners of each entry until they leave, and its owner whether there are any', () => {
    const watched: boolean[] = [];
    const log = newLog((value) => watched.push(value));
    const seen: number[] = [];
    const listener = ({ seq }: LogEntry): void => {
      seen.push(seq);
    };
    const [leave, leaveToo] = [log.subscribe(listener), log.subscribe(listener)];
    log.append({ kind: 'queued' });
    leave();
    leave();
    log.append(STARTED);
    leaveToo();
    log.append(tokens(0, 1));
    expect(seen).toEqual([1, 1, 2]);
    expect(watched).toEqual([true, false]);
  });

  it('neither skips nor doubles an entry for a listener that comes while another is told', () => {
    const log = newLog();
    const seen: number[] = [];
    const stop = log.subscribe(() => {
      stop();
      seen.push(...seqs(log.since(0).entries));
      log.subscribe(({ seq }) => seen.push(seq));
    });
    log.append({ kind: 'queued' });
    log.append(STARTED);
    expect(seen).toEqual([1, 2]);
  });
});
