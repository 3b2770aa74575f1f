import { describe, expect, it } from 'vitest';
import type { DrawEvent } from '../../../web/src/protocol/events.js';
import { hasDrafts, isOver, Mark, newDrawing, reduce, tokensDrawn, type DrawingState } from '../../../web/src/state/drawing.js';

const start = (n = 1): DrawingState => newDrawing({ way: 'socket', seeds: Array.from({ length: n }, (_, i) => 5 + i), tokens: 4, now: 100 });
const tokens = (from: number, to: number, accepted: boolean[] | null = null, image = 0): DrawEvent => ({ type: 'tokens', image, from, to, accepted, ts: 1000 + to });
const run = (state: DrawingState, events: DrawEvent[]): DrawingState => events.reduce((now, event, i) => reduce(now, event, 110 + 10 * i), state);

describe('reduce', () => {
  it('goes from sent to done and notes the times', () => {
    const state = run(start(), [
      { type: 'accepted', position: 2, etaMs: 40, seeds: [9] },
      { type: 'queued', position: 1, etaMs: 20 },
      { type: 'started', batchSize: 3, ts: 1000 },
      { type: 'preview', image: 0, rect: null, mime: 'image/png', bytes: new Uint8Array() },
      tokens(0, 4),
      { type: 'image', image: 0, seed: 9, mime: 'image/png', bytes: new Uint8Array() },
      { type: 'completed', usage: null, timings: null },
    ]);
    expect(state).toMatchObject({ phase: 'done', fraction: 1, batchSize: 3, position: 0 });
    expect(state.pictures).toEqual([{ seed: 9, marks: [1, 1, 1, 1], isFinished: true }]);
    expect(state.clock).toEqual({ sentAt: 100, acceptedAt: 110, startedAt: 130, firstRowAt: 140, endedAt: 170, startedTs: 1000, lastTokenTs: 1004 });
  });

  it('never runs backwards, whatever comes twice, late or broken', () => {
    const fractions = [0.1, 0.5, 0.3, Number.NaN, 0.5, 0.2, 7];
    let state = start();
    let before = 0;
    for (const fraction of fractions) {
      state = reduce(state, { type: 'progress', fraction, etaMs: null }, 0);
      expect(state.fraction).toBeGreaterThanOrEqual(before);
      expect(state.fraction).toBeLessThanOrEqual(1);
      before = state.fraction;
    }
    state = reduce(state, { type: 'accepted', position: 3, etaMs: null, seeds: [] }, 0);
    state = reduce(state, { type: 'queued', position: 3, etaMs: null }, 0);
    expect(state.phase).toBe('drawing');
  });

  it('marks tokens once: a replay from token 0 unmarks nothing', () => {
    const state = run(start(2), [tokens(0, 3, [true, false, true]), tokens(0, 1), tokens(1, 4, null, 1), { type: 'started', batchSize: 1, ts: 5 }]);
    expect(state.pictures[0]?.marks).toEqual([Mark.accepted, Mark.target, Mark.accepted, Mark.none]);
    expect(state.pictures[1]?.marks).toEqual([Mark.none, Mark.drawn, Mark.drawn, Mark.drawn]);
    expect(tokensDrawn(state)).toBe(6);
    expect(hasDrafts(state)).toBe(true);
    expect(hasDrafts(start())).toBe(false);
  });

  it('is interrupted and resumed without losing its place', () => {
    const state = run(start(), [tokens(0, 2), { type: 'progress', fraction: 0.5, etaMs: 9 }, { type: 'interrupted' }]);
    expect(state).toMatchObject({ phase: 'drawing', isInterrupted: true, fraction: 0.5 });
    expect(reduce(state, { type: 'resumed' }, 0)).toMatchObject({ phase: 'drawing', isInterrupted: false, fraction: 0.5 });
  });

  it('ends once', () => {
    const cancelled = reduce(start(), { type: 'cancelled' }, 120);
    expect(isOver(cancelled)).toBe(true);
    expect(reduce(cancelled, { type: 'completed', usage: null, timings: null }, 130)).toBe(cancelled);
    expect(reduce(cancelled, tokens(0, 4), 130)).toBe(cancelled);
  });
});
