import { describe, expect, it } from 'vitest';
import { ServerError } from '../../src/errors.js';
import { isFinal, nextStatus, type JobEvent, type JobStatus } from '../../src/jobs/job.js';
import { picture } from '../support/manual-worker.js';

const { image } = picture();
const timings = { queue: 0, draw: 0, encode: 0, total: 0 };
const EVENTS: JobEvent[] = [
  { kind: 'queued' },
  { kind: 'started', worker: 'worker-0', batchSize: 1 },
  { kind: 'tokens', image: 0, from: 0, to: 1, total: 2 },
  { kind: 'image', image },
  { kind: 'succeeded', result: { images: [image], timings } },
  { kind: 'failed', error: new ServerError('engine_error', 'x') },
  { kind: 'cancelled', reason: 'api' },
];

describe('nextStatus', () => {
  it.each(['succeeded', 'failed', 'cancelled'] as const)('never leaves %s', (status) => {
    for (const event of EVENTS) expect(nextStatus(status, event)).toBe(status);
    expect(isFinal(status)).toBe(true);
  });

  it('follows the life of a job', () => {
    const after = (status: JobStatus, kinds: JobEvent['kind'][]): JobStatus =>
      kinds.reduce((current, kind) => nextStatus(current, EVENTS.find((event) => event.kind === kind)!), status);
    expect(after('queued', ['queued'])).toBe('queued');
    expect(after('queued', ['started', 'tokens', 'image'])).toBe('running');
    expect(after('queued', ['started', 'succeeded'])).toBe('succeeded');
    expect(after('queued', ['cancelled', 'image', 'succeeded'])).toBe('cancelled');
    expect(after('queued', ['failed', 'cancelled'])).toBe('failed');
  });
});
