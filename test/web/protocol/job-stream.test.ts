import { describe, expect, it } from 'vitest';
import type { DrawEvent } from '../../../web/src/protocol/events.js';
import type { BinaryFrame } from '../../../web/src/protocol/frames.js';
import { JobStream } from '../../../web/src/protocol/job-stream.js';

function stream(): { job: JobStream; events: DrawEvent[] } {
  const events: DrawEvent[] = [];
  return { job: new JobStream('a', (event) => events.push(event)), events };
}

const base = { job: 'j', ts: 0 };
const accepted = (seq: number, epoch = 'e') => ({ ...base, t: 'accepted' as const, id: 'a', seq, epoch, position: 0, eta_ms: null, seeds: [7] });
const tokens = (seq: number, from: number, to: number) => ({ ...base, t: 'tokens' as const, seq, image: 0, from, to });
const binary = (seq: number, final: boolean): BinaryFrame => ({ job: 'j', seq, image: 0, mime: 'image/png', final, rect: null, bytes: new Uint8Array([seq]) });

describe('JobStream', () => {
  it('resumes behind the last entry whose bytes have come', () => {
    const { job } = stream();
    expect(job.resumePoint).toBeNull();
    job.onText(accepted(1));
    job.onText(tokens(2, 0, 8));
    expect(job.resumePoint).toEqual({ job: 'j', epoch: 'e', after: 2 });
    job.onText({ ...base, t: 'preview', seq: 3, image: 0, n: 0, kind: 'rows' });
    expect(job.resumePoint?.after).toBe(2);
    job.onBinary(binary(3, false));
    expect(job.resumePoint?.after).toBe(3);
  });

  it('drops what a replay repeats, and keeps several frames of one entry', () => {
    const { job, events } = stream();
    job.onText(accepted(1));
    job.onText(tokens(5, 0, 8));
    job.onText({ ...base, t: 'progress', seq: 5, stage: 'ar', step: 8, total: 64, fraction: 0.1, eta_ms: null });
    job.onText(tokens(4, 0, 4));
    expect(events.map(({ type }) => type)).toEqual(['accepted', 'tokens', 'progress']);
  });

  it('gives each finished picture once, with the seed that was announced, and no preview after it', () => {
    const { job, events } = stream();
    job.onText(accepted(1));
    job.onText({ ...base, t: 'image', seq: 9, image: 0, seed: 41, mime: 'image/png' });
    job.onBinary(binary(9, true));
    job.onBinary(binary(9, true));
    job.onBinary(binary(8, false));
    expect(events.filter(({ type }) => type !== 'accepted')).toEqual([{ type: 'image', image: 0, seed: 41, mime: 'image/png', bytes: new Uint8Array([9]) }]);
  });

  it('counts whole pictures on the way, which fill the picture, and leaves strips their place', () => {
    const { job, events } = stream();
    const rect = { x: 0, y: 0, width: 64, height: 64 };
    job.onText(accepted(1));
    for (const [seq, n, kind] of [[3, 0, 'full'], [4, 2, 'full'], [5, 0, 'rows']] as const) {
      job.onText({ ...base, t: 'preview', seq, image: 0, n, kind, rect });
      job.onBinary({ ...binary(seq, false), rect });
    }
    expect(events.slice(1)).toMatchObject([{ partial: 0, rect: null }, { partial: 2, rect: null }, { partial: null, rect }]);
  });

  it('says nothing after the end', () => {
    const { job, events } = stream();
    job.onText(accepted(1));
    job.onText({ ...base, t: 'cancelled', seq: 2 });
    job.onText(tokens(3, 0, 8));
    job.emit({ type: 'resumed' });
    expect(job.isOver).toBe(true);
    expect(events.at(-1)).toEqual({ type: 'cancelled' });
  });

  it('starts its numbering again with a new epoch and after a restart', () => {
    const { job, events } = stream();
    job.onText(accepted(1));
    job.onText(tokens(30, 0, 8));
    job.onText(accepted(1, 'other'));
    job.onText(tokens(2, 0, 16));
    expect(events.at(-1)).toMatchObject({ type: 'tokens', to: 16 });
    job.onEpoch('third');
    job.onText(tokens(1, 0, 24));
    expect(events.at(-1)).toMatchObject({ type: 'tokens', to: 24 });
    job.restart();
    expect(job.resumePoint).toBeNull();
  });
});
