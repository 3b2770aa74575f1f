import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { NEUTRAL } from '../../src/image/preview.js';
import type { JobPreview, JobRequest } from '../../src/jobs/job.js';
import { PreviewStream } from '../../src/worker/preview-stream.js';
import { JOB_REQUEST } from '../support/manual-worker.js';

// One channel and patch 1, so a token is a grey pixel and a grid row a pixel row; 2 x 2 pixels a token.
const MODEL = { latentRgb: { weights: [[1], [1], [1]], bias: [0, 0, 0] }, latentPatchSize: 1, pixelFactor: 2 };

class Sink {
  readonly previews: JobPreview[] = [];
  readonly times: number[] = [];
  closed = false;
  isClosed = (): boolean => this.closed;
  emit = (preview: JobPreview): void => {
    this.previews.push(preview);
  };
  spent = (seconds: number): void => {
    this.times.push(seconds);
  };
}

const request: JobRequest = { ...JOB_REQUEST, gridHeight: 4, gridWidth: 3, format: 'png' };

const row = (begin: number, end: number, value: number): [number, number, Float32Array] => [begin * 3, end * 3, new Float32Array((end - begin) * 3).fill(value / 255)];

const picture = (rows: number) => ({ sequence: 1, tokens: rows * 3, width: 6, height: 8, rgb: new Uint8Array(6 * 8 * 3).fill(200) });

const pixels = (bytes: Uint8Array): Promise<Buffer> => sharp(bytes).raw().toBuffer();

describe('PreviewStream', () => {
  it('shows a partial picture in full size, neutral below its rows', async () => {
    const sink = new Sink();
    await new PreviewStream(2, request, MODEL, sink).partial(picture(3));
    const [preview] = sink.previews;
    expect(preview).toMatchObject({ image: 2, index: 0, kind: 'full', format: 'png', width: 6, height: 8, rect: { x: 0, y: 0, width: 6, height: 8 } });
    const rgb = await pixels(preview!.bytes);
    expect(new Set(rgb.subarray(0, 6 * 6 * 3))).toEqual(new Set([200]));
    expect(new Set(rgb.subarray(6 * 6 * 3))).toEqual(new Set([NEUTRAL]));
    expect(sink.times).toHaveLength(1);
    expect(sink.times[0]).toBeGreaterThan(0);
  });

  it('shows rows at latent resolution, with their place in the picture', async () => {
    const sink = new Sink();
    await new PreviewStream(0, { ...request, format: 'jpeg' }, MODEL, sink).rows(...row(1, 3, 70));
    const [preview] = sink.previews;
    expect(preview).toMatchObject({ image: 0, index: 0, kind: 'rows', format: 'png', width: 3, height: 2, rect: { x: 0, y: 2, width: 6, height: 4 } });
    expect([...(await pixels(preview!.bytes))]).toEqual(Array<number>(18).fill(70));
  });

  it('merges rows that wait for each other, keeps the order and counts each kind', async () => {
    const sink = new Sink();
    const stream = new PreviewStream(0, request, MODEL, sink);
    void stream.partial(picture(0));
    // Both while the partial is encoded: one strip. The row after the next partial is not shown before it.
    void stream.rows(...row(0, 1, 10));
    void stream.rows(...row(1, 2, 20));
    void stream.partial(picture(2));
    void stream.rows(...row(2, 3, 30));
    await stream.settled();
    expect(sink.previews.map(({ kind, index, rect }) => [kind, index, rect.y, rect.height])).toEqual([
      ['full', 0, 0, 8],
      ['rows', 0, 0, 4],
      ['full', 1, 0, 8],
      ['rows', 1, 4, 2],
    ]);
    expect([...(await pixels(sink.previews[1]!.bytes))]).toEqual([...Array<number>(9).fill(10), ...Array<number>(9).fill(20)]);
  });

  it('encodes and shows nothing once nobody looks', async () => {
    const sink = new Sink();
    const stream = new PreviewStream(0, request, MODEL, sink);
    void stream.partial(picture(1));
    const last = stream.rows(...row(0, 1, 10));
    // In the middle of the first encode.
    await new Promise((resolve) => setImmediate(resolve));
    sink.closed = true;
    await last;
    expect(sink.previews).toEqual([]);
    expect(sink.times.length).toBeLessThanOrEqual(1);
  });

  it('says what could not be encoded, to that preview and to the picture behind it', async () => {
    const stream = new PreviewStream(0, request, MODEL, new Sink());
    await expect(stream.partial({ ...picture(1), rgb: new Uint8Array(5) })).rejects.toThrow(RangeError);
    await expect(stream.settled()).rejects.toThrow(RangeError);
  });
});
