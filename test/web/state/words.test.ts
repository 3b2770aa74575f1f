import { describe, expect, it } from 'vitest';
import { newDrawing, reduce, type DrawingState } from '../../../web/src/state/drawing.js';
import { accelerationInWords, duration, errorInWords, outputInWords, statusOf } from '../../../web/src/state/words.js';

const start = (n = 1): DrawingState => newDrawing({ way: 'socket', seeds: Array.from({ length: n }, () => 1), tokens: 4, now: 0 });

describe('words', () => {
  it('says durations as one reads them', () => {
    expect([0.42, 84.4, 1240, 12_340, 125_000].map(duration)).toEqual(['0.4 ms', '84 ms', '1.24 s', '12.3 s', '2 min 5 s']);
  });

  it('says where a drawing is', () => {
    expect(statusOf(start())).toBe('Sending …');
    expect(statusOf(reduce(start(), { type: 'queued', position: 3, etaMs: null }, 0))).toBe('Waiting: 3 ahead');
    expect(statusOf(reduce(start(2), { type: 'progress', fraction: 0.509, etaMs: 3000 }, 0))).toBe('Drawing 2 pictures: 50 %, about 3 s left');
    expect(statusOf(reduce(start(2), { type: 'completed', usage: null, timings: null }, 900))).toBe('2 pictures in 900 ms');
    expect(statusOf(reduce(start(), { type: 'interrupted' }, 0))).toMatch(/reconnecting/);
  });

  it('names the pass under way, and counts passes instead of tokens', () => {
    let state = newDrawing({ way: 'sse', seeds: [1, 2], tokens: 4, unit: 'pass', now: 0 });
    for (const image of [0, 1]) state = reduce(state, { type: 'tokens', image, from: 0, to: 9, total: 32, accepted: null, ts: null }, 0);
    state = reduce(state, { type: 'progress', fraction: 0.27, etaMs: 100 }, 0);
    expect(statusOf(state)).toBe('Drawing 2 pictures: pass 2 of 4, 27 %');
    expect(outputInWords(state)).toBeNull();
    const usage = { total_tokens: 9, input_tokens: 1, output_tokens: 8 };
    expect(outputInWords(reduce(state, { type: 'completed', usage, timings: null }, 0))).toBe('8 passes');
    expect(outputInWords(reduce(start(), { type: 'completed', usage, timings: null }, 0))).toBe('8 image tokens');
  });

  it('asks what was meant where the server has suggestions', () => {
    const error = { message: 'prompt "aple" names no class …', type: 't', param: 'prompt', code: 'invalid_value' };
    expect(errorInWords({ ...error, suggestions: [{ prompt: 'red apple', name: 'red apple' }] })).toMatch(/Did you mean/);
    expect(errorInWords({ ...error, suggestions: [] })).toBe(error.message);
  });

  it('says errors by what can be done about them, and otherwise as the server does', () => {
    const error = (code: string, param: string | null = null) => errorInWords({ message: 'as the server says', type: 't', param, code });
    expect(error('queue_full')).toMatch(/busy/);
    expect(error('string_above_max_length', 'prompt')).toMatch(/prompt is too long/);
    expect(error('unsupported_value', 'size')).toBe('as the server says');
  });

  it('says what was done, from usage alone', () => {
    const off = { mode: 'off', few_step: 0, rounds: 0, draft_tokens: 0, accepted_tokens: 0, gate_stops: 0 };
    const done = (acceleration: typeof off & { throughput?: true }) => accelerationInWords(reduce(start(), { type: 'completed', usage: { total_tokens: 0, input_tokens: 0, output_tokens: 0, acceleration }, timings: null }, 0));
    expect(accelerationInWords(start())).toBeNull();
    expect(done(off)).toBe('drawn without acceleration');
    expect(done({ ...off, mode: 'relaxed', few_step: 4, rounds: 9, draft_tokens: 40, accepted_tokens: 31 })).toBe('relaxed speculation, 31 of 40 drafts taken in 9 rounds, 4.4 tokens a round · 4-step head');
    expect(done({ ...off, few_step: 1, throughput: true })).toBe('1-step head · chosen by the load');
  });

  it('says it of passes in their own words', () => {
    const acceleration = { mode: 'relaxed', few_step: 2, rounds: 3, draft_tokens: 3, accepted_tokens: 2, gate_stops: 0 };
    const state = newDrawing({ way: 'socket', seeds: [1], tokens: 4, unit: 'pass', now: 0 });
    expect(accelerationInWords(reduce(state, { type: 'completed', usage: { total_tokens: 0, input_tokens: 0, output_tokens: 0, acceleration }, timings: null }, 0))).toBe('relaxed speculation, 2 of 3 drafted passes taken · 2-step decoder');
  });
});
