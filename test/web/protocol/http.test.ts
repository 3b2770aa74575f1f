import { describe, expect, it } from 'vitest';
import { eventsOfAnswer, eventsOfSse } from '../../../web/src/protocol/http.js';

const sse = (data: Record<string, unknown>) => eventsOfSse({ event: String(data['type'] ?? 'message'), data: JSON.stringify(data) });

describe('eventsOfSse', () => {
  it('reads progress, partial images, pictures and errors', () => {
    expect(sse({ type: 'image_generation.progress', stage: 'prefill', step: 0, fraction: 0, eta_ms: null })).toEqual([{ type: 'progress', fraction: 0, etaMs: null }]);
    expect(sse({ type: 'image_generation.progress', stage: 'ar', step: 8, total: 64, image: 1, fraction: 0.5, eta_ms: 20 })).toEqual([
      { type: 'progress', fraction: 0.5, etaMs: 20 },
      { type: 'tokens', image: 1, from: 0, to: 8, total: 64, accepted: null, ts: null },
    ]);
    expect(sse({ type: 'image_generation.partial_image', b64_json: 'AQI=', partial_image_index: 1, index: 2, output_format: 'webp' })).toEqual([
      { type: 'preview', image: 2, partial: 1, rect: null, mime: 'image/webp', bytes: new Uint8Array([1, 2]) },
    ]);
    expect(sse({ type: 'image_generation.completed', b64_json: 'AQI=', index: 1, seed: 5, timings: { draw_ms: 3 } })).toMatchObject([
      { type: 'image', image: 1, seed: 5, mime: 'image/png' },
      { type: 'completed', timings: { draw_ms: 3 } },
    ]);
    const error = { message: 'm', type: 't', param: null, code: 'engine_error' };
    expect(eventsOfSse({ event: 'error', data: JSON.stringify({ error }) })).toEqual([{ type: 'failed', error }]);
  });

  it('has no use for the end marker and for events of a later version', () => {
    expect(eventsOfSse({ event: 'message', data: '[DONE]' })).toEqual([]);
    expect(sse({ type: 'image_generation.hologram' })).toEqual([]);
  });
});

describe('eventsOfAnswer', () => {
  it('gives the pictures in order, then the end with usage and timings', () => {
    const usage = { total_tokens: 3, input_tokens: 1, output_tokens: 2 };
    const events = eventsOfAnswer({ data: [{ b64_json: 'AQ==', seed: 7 }, { b64_json: 'Ag==', seed: 8 }], output_format: 'jpeg', usage, timings: { draw_ms: 4 } });
    expect(events.map((event) => [event.type, event.type === 'image' ? event.seed : null])).toEqual([['image', 7], ['image', 8], ['completed', null]]);
    expect(events.at(-1)).toEqual({ type: 'completed', usage, timings: { draw_ms: 4 } });
  });
});
