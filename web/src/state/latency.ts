import { isOver, tokensDrawn, type DrawingState } from './drawing.js';

/** What a drawing took so far, each measured or null. Milliseconds. */
export interface Latency {
  firstRowMs: number | null;
  totalMs: number;
  /** Over the image tokens of all pictures of the request: what one more token costs. Of a model that draws in passes: over those. */
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

export interface Bar {
  x: number;
  y: number;
  height: number;
}

/** The newest `slots` values as bars of a box, oldest at the left; from 0 up, so that heights compare. */
export function sparkline(values: readonly number[], slots: number, width: number, height: number): Bar[] {
  const shown = values.slice(-slots);
  const top = Math.max(...shown, Number.MIN_VALUE);
  return shown.map((value, i) => {
    const tall = (value / top) * height;
    return { x: (i * width) / slots, y: height - tall, height: tall };
  });
}
