import { describe, expect, it } from 'vitest';
import type { DrawEvent } from '../../../web/src/protocol/events.js';
import { hasDrafts, isOver, Mark, newDrawing, passUnderWay, reduce, tokensDrawn, type DrawingState } from '../../../web/src/state/drawing.js';

const start = (n = 1): DrawingState => newDrawing({ way: 'socket', seeds: Array.from({ length: n }, (_, i) => 5 + i), tokens: 4, now: 100 });
const tokens = (from: number, to: number, accepted: boolean[] | null = null, image = 0): DrawEvent => ({ type: 'tokens', image, from, to, total: 4, accepted, ts: 1000 + to });
const run = (state: DrawingState, events: DrawEvent[]): DrawingState => events.reduce((now, event, i) => reduce(now, event, 110 + 10 * i), state);

describe('reduce', () => {
  it('goes from sent to done and notes the times', () => {
    const state = run(start(), [
      { type: 'accepted', position: 2, etaMs: 40, seeds: [9] },
      { type: 'queued', position: 1, etaMs: 20 },
      { type: 'started', batchSize: 3, ts: 1000 },
      { type: 'preview', image: 0, partial: null, rect: null, mime: 'image/png', bytes: new Uint8Array() },
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

describe('a drawing in passes', () => {
  const passes = (n = 1, count = 4): DrawingState => newDrawing({ way: 'socket', seeds: Array.from({ length: n }, (_, i) => i), tokens: count, unit: 'pass', now: 0 });
  const timesteps = (to: number, image = 0): DrawEvent => ({ type: 'tokens', image, from: 0, to, total: 12, accepted: null, ts: null });

  it('has a mark for each pass that all timesteps of are drawn', () => {
    expect([0, 2, 3, 5, 6, 12].map((to) => tokensDrawn(run(passes(), [timesteps(to)])))).toEqual([0, 0, 1, 1, 2, 4]);
  });

  it('says which pass is under way: of several pictures that of the last one', () => {
    expect(passUnderWay(passes())).toEqual({ pass: 1, of: 4 });
    expect(passUnderWay(run(passes(), [timesteps(3)]))).toEqual({ pass: 2, of: 4 });
    expect(passUnderWay(run(passes(2), [timesteps(7), timesteps(4, 1)]))).toEqual({ pass: 2, of: 4 });
    expect(passUnderWay(run(passes(), [timesteps(12)]))).toEqual({ pass: 4, of: 4 });
  });

  it('marks a drafted pass as taken or refused, though the last one is drawn in fewer jumps', () => {
    // Three references of 5 timesteps, then a picture of 2 jumps.
    const drawn = (from: number, to: number, taken: boolean): DrawEvent => ({ type: 'tokens', image: 0, from, to, total: 17, accepted: Array.from({ length: to - from }, () => taken), ts: null });
    const refused = [5, 6, 7, 8, 9].map((from) => drawn(from, from + 1, false));
    const state = run(passes(), [drawn(0, 5, true), ...refused, drawn(10, 15, true), drawn(15, 17, false)]);
    expect(state.pictures[0]?.marks).toEqual([Mark.accepted, Mark.target, Mark.accepted, Mark.target]);
  });

  it('knows from the picture of a pass that it is over', () => {
    const state = run(passes(2), [{ type: 'preview', image: 1, partial: 1, rect: null, mime: 'image/png', bytes: new Uint8Array() }]);
    expect(state.pictures.map(({ marks }) => marks)).toEqual([[0, 0, 0, 0], [1, 1, 0, 0]]);
    const partial: DrawEvent = { type: 'preview', image: 0, partial: 0, rect: null, mime: 'image/png', bytes: new Uint8Array() };
    expect(tokensDrawn(run(start(), [partial]))).toBe(0);
  });

  it('has none to tell apart where there is one, and where tokens are drawn', () => {
    expect([passUnderWay(passes(1, 1)), passUnderWay(start())]).toEqual([null, null]);
  });
});
