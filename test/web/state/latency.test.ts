import { describe, expect, it } from 'vitest';
import { newDrawing, reduce, type DrawingState } from '../../../web/src/state/drawing.js';
import { latencyOf, sparkline } from '../../../web/src/state/latency.js';
import { imageTokens, tokensPerSecond } from '../../../web/src/state/server-rate.js';

function drawn(): DrawingState {
  let state = newDrawing({ way: 'socket', seeds: [1], tokens: 4, now: 1000 });
  state = reduce(state, { type: 'accepted', position: 0, etaMs: null, seeds: [1] }, 1005);
  state = reduce(state, { type: 'started', batchSize: 1, ts: 50 }, 1020);
  state = reduce(state, { type: 'tokens', image: 0, from: 0, to: 2, total: 4, accepted: null, ts: 90 }, 1070);
  return reduce(state, { type: 'preview', image: 0, partial: null, rect: null, mime: 'image/png', bytes: new Uint8Array() }, 1080);
}

describe('latencyOf', () => {
  it('measures nothing before anything has come', () => {
    expect(latencyOf(newDrawing({ way: 'http', seeds: [1], tokens: 4, now: 1000 }), 1010)).toEqual({ firstRowMs: null, totalMs: 10, perTokenMs: null, queueMs: null });
  });

  it('takes the first row by this clock and tokens by the server’s', () => {
    expect(latencyOf(drawn(), 1100)).toEqual({ firstRowMs: 80, totalMs: 100, perTokenMs: 20, queueMs: 15 });
  });

  it('prefers the server’s own timings at the end, and stops its clock', () => {
    let state = reduce(drawn(), { type: 'image', image: 0, seed: 1, mime: 'image/png', bytes: new Uint8Array() }, 1110);
    state = reduce(state, { type: 'completed', usage: null, timings: { queue_ms: 2, draw_ms: 60 } }, 1120);
    expect(latencyOf(state, 9999)).toEqual({ firstRowMs: 80, totalMs: 120, perTokenMs: 15, queueMs: 2 });
  });
});

describe('sparkline', () => {
  it('has a bar per value, oldest at the left, from 0 up to the largest', () => {
    expect(sparkline([10, 5, 0], 10, 100, 20)).toEqual([{ x: 0, y: 0, height: 20 }, { x: 10, y: 10, height: 10 }, { x: 20, y: 20, height: 0 }]);
    expect(sparkline([], 10, 100, 20)).toEqual([]);
    expect(sparkline([0, 0], 10, 100, 20).every(({ height }) => height === 0)).toBe(true);
  });

  it('shows the newest when there are more than fit', () => {
    expect(sparkline([100, 1, 2], 2, 100, 20)).toEqual([{ x: 0, y: 10, height: 10 }, { x: 50, y: 0, height: 20 }]);
  });
});

describe('the server’s rate', () => {
  it('sums the counter over models; before its first count it is 0, and elsewhere unknown', () => {
    const type = '# TYPE ardiff_image_tokens_total counter\n';
    expect(imageTokens(`${type}ardiff_image_tokens_total{model="a"} 64\nardiff_image_tokens_total{model="b"} 6\nardiff_image_tokens_total_created 9\n`)).toBe(70);
    expect(imageTokens(type)).toBe(0);
    expect(imageTokens('up 1\n')).toBeNull();
  });

  it('is a difference over time, and nothing across a restart', () => {
    expect(tokensPerSecond({ at: 1000, tokens: 10 }, { at: 3000, tokens: 110 })).toBe(50);
    expect(tokensPerSecond({ at: 1000, tokens: 10 }, { at: 1000, tokens: 10 })).toBeNull();
    expect(tokensPerSecond({ at: 1000, tokens: 10 }, { at: 2000, tokens: 0 })).toBeNull();
  });
});
