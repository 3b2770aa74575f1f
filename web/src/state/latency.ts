import { isOver, tokensDrawn, type DrawingState } from './drawing.js';

/** What a drawing took so far, each measured or null. Milliseconds. */
export interface Latency {
  firstRowMs: number | null;
  totalMs: number;
  /** Over the image tokens of all pictures of the request: what one more token costs. */
  perTokenMs: number | null;
  queueMs: number | null;
}

export function latencyOf(state: DrawingState, now: number): Latency {
  const { clock } = state;
  return {
    firstRowMs: clock.firstRowAt === null ? null : clock.firstRowAt - clock.sentAt,
    totalMs: (clock.endedAt ?? now) - clock.sentAt,
    perTokenMs: perToken(state),
    queueMs: state.timings?.queue_ms ?? (clock.startedAt === null ? null : clock.startedAt - (clock.acceptedAt ?? clock.sentAt)),
  };
}

/** By the server's clock, so that the way here does not count: its own drawing time at the end, its token frames before. */
function perToken(state: DrawingState): number | null {
  const tokens = tokensDrawn(state);
  if (tokens === 0) return null;
  const draw = state.timings?.draw_ms;
  if (isOver(state) && draw !== undefined) return draw / tokens;
  const { startedTs, lastTokenTs } = state.clock;
  return startedTs === null || lastTokenTs === null ? null : (lastTokenTs - startedTs) / tokens;
}

export interface Point {
  x: number;
  y: number;
}

/** Values → points in a box, newest at the right; 0 is the bottom, so that heights compare. */
export function sparkline(values: readonly number[], width: number, height: number): Point[] {
  const top = Math.max(...values, Number.MIN_VALUE);
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  return values.map((value, i) => ({ x: values.length > 1 ? i * step : width, y: height - (value / top) * height }));
}
