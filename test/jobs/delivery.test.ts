import { beforeEach, describe, expect, it } from 'vitest';
import { EngineError, ServerError } from '../../src/errors.js';
import { Delivery } from '../../src/jobs/delivery.js';
import type { WireEvent } from '../../src/jobs/ipc.js';
import type { JobEvent } from '../../src/jobs/job.js';
import { toWireError } from '../../src/jobs/wire-error.js';
import { JOB_REQUEST, picture, preview, STARTED, tokens } from '../support/manual-worker.js';

const THREE = { ...JOB_REQUEST, seeds: [10, 11, 12] };
const TIMINGS = { queue: 1, draw: 2, encode: 3, total: 6 };
const DONE: WireEvent = { kind: 'succeeded', result: { timings: TIMINGS } };

let delivery: Delivery;

beforeEach(() => {
  delivery = new Delivery(THREE, 0);
  delivery.attempt(0);
});

/** Events made for the other side of the wire are the same on it, but for their end. */
type Told = WireEvent | Exclude<JobEvent, { kind: 'failed' }>;
const tell = (...events: Told[]): (JobEvent | null)[] => events.map((event) => delivery.accept(event));
/** The worker died while it drew. */
const die = (): void => {
  delivery.blame();
  delivery.attempt(0);
};

describe('Delivery', () => {
  it('passes everything of an undisturbed job on, in its own terms', () => {
    const events = [STARTED, tokens(0, 3), preview('full', 0), preview('rows', 0), tokens(3, 8), picture(0), picture(1), picture(2)];
    expect(tell(...events)).toEqual(events);
    expect(tell(DONE)).toEqual([{ kind: 'succeeded', result: { timings: TIMINGS, images: [0, 1, 2].map((i) => picture(i).image) } }]);
  });

  it('keeps the bytes of a picture and not the buffer they came in', () => {
    const buffer = new Uint8Array(65_536).fill(7);
    const bytes = buffer.subarray(100, 110);
    const [image, shown] = tell({ kind: 'image', image: { ...picture(0).image, bytes } }, { kind: 'preview', preview: { ...preview('full', 0, { image: 1 }).preview, bytes } });
    const kept = [image?.kind === 'image' ? image.image.bytes : null, shown?.kind === 'preview' ? shown.preview.bytes : null];
    for (const own of kept) expect([own?.length, own?.[9], own?.buffer.byteLength]).toEqual([10, 7, 10]);
  });

  it('gives the next worker the pictures that are not there yet, and calls them by their own index', () => {
    tell(STARTED, picture(1));
    delivery.blame();
    expect(delivery.attempt(0).seeds).toEqual([10, 12]);
    // Picture 1 of the new worker is picture 2 of the job.
    expect(tell(tokens(0, 5, 1), { kind: 'image', image: { ...picture(1).image, seed: 12 } })).toEqual([
      tokens(0, 5, 2),
      { kind: 'image', image: { ...picture(2).image, seed: 12 } },
    ]);
    tell(picture(0));
    const [end] = tell(DONE);
    expect(end?.kind === 'succeeded' && end.result.images.map(({ index }) => index)).toEqual([0, 1, 2]);
  });

  it('tells a start once', () => {
    expect(tell(STARTED)).toEqual([STARTED]);
    die();
    expect(tell(STARTED)).toEqual([null]);
  });

  it('drops tokens that were seen, per picture, and cuts what was seen in part', () => {
    tell(STARTED, tokens(0, 10, 0), tokens(0, 4, 1));
    die();
    expect(tell(tokens(0, 8, 0), tokens(8, 10, 0))).toEqual([null, null]);
    expect(tell(tokens(8, 16, 0), tokens(0, 7, 1))).toEqual([tokens(10, 16, 0), tokens(4, 7, 1)]);
    expect(tell({ ...tokens(14, 19), accepted: [true, false, true, false, true] })).toEqual([
      { ...tokens(16, 19), accepted: [true, false, true] },
    ]);
  });

  it('drops partial pictures that were seen', () => {
    tell(preview('full', 0), preview('full', 1));
    die();
    expect(tell(preview('full', 0), preview('full', 1), preview('full', 2))).toEqual([null, null, preview('full', 2)]);
  });

  it('drops strips whose rows were seen, however they are cut, and goes on counting', () => {
    tell(preview('rows', 0, { y: 0, height: 8 }), preview('rows', 1, { y: 8, height: 8 }));
    die();
    expect(tell(preview('rows', 0, { y: 0, height: 16 }), preview('rows', 1, { y: 16, height: 16 }))).toEqual([null, preview('rows', 2, { y: 16, height: 16 })]);
  });

  it('is drawn twice at most, and knows whether it is being drawn', () => {
    expect([delivery.isDrawing, delivery.isRepeated]).toEqual([false, false]);
    tell(STARTED);
    expect([delivery.isDrawing, delivery.blame()]).toEqual([true, true]);
    delivery.attempt(0);
    expect([delivery.isDrawing, delivery.isRepeated]).toEqual([false, true]);
    tell(STARTED);
    expect([delivery.isDrawing, delivery.blame()]).toEqual([true, false]);
  });

  it('counts time without a worker as waiting, and lost time as drawing', () => {
    const waited = new Delivery(JOB_REQUEST, 1000);
    waited.attempt(1500);
    expect(waited.accept(DONE)).toMatchObject({ result: { timings: { queue: 1.5, draw: 2, total: 6.5 } } });
    const repeated = new Delivery(JOB_REQUEST, 1000);
    repeated.attempt(1000);
    repeated.accept(STARTED);
    repeated.blame();
    repeated.attempt(5000);
    expect(repeated.accept(DONE)).toMatchObject({ result: { timings: { queue: 1, draw: 6, encode: 3, total: 10 } } });
  });

  it('comes to its end when only the end was lost', () => {
    tell(STARTED, picture(0), picture(1), picture(2));
    delivery.blame();
    expect(delivery.attempt(0).seeds).toEqual([10]);
    expect(tell(tokens(0, 5), picture(0))).toEqual([tokens(0, 5), null]);
    expect(tell(DONE)[0]).toMatchObject({ kind: 'succeeded', result: { images: [{ index: 0 }, { index: 1 }, { index: 2 }] } });
  });

  it('brings errors back as what they were', () => {
    const [engine] = tell({ kind: 'failed', error: toWireError(new EngineError('out_of_memory', 'blocks')) });
    expect(engine).toMatchObject({ kind: 'failed', error: { code: 'out_of_memory', shouldRetry: false, nativeCode: 'out_of_memory', detail: 'blocks' } });
    expect(engine?.kind === 'failed' && engine.error).toBeInstanceOf(EngineError);
    const refused = new ServerError('queue_full', 'full', { param: 'n', retryAfterSeconds: 7, cause: new Error('why') });
    const [plain] = tell({ kind: 'failed', error: structuredClone(toWireError(refused)) });
    expect(plain).toMatchObject({ error: { code: 'queue_full', status: 429, message: 'full', param: 'n', retryAfterSeconds: 7, shouldRetry: null } });
    expect(plain?.kind === 'failed' && String(plain.error.cause)).toContain('why');
  });
});
