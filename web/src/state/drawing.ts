import type { DrawEvent, TransportName } from '../protocol/events.js';
import type { ApiError, Timings, Usage } from '../protocol/frames.js';

export type Phase = 'sent' | 'queued' | 'drawing' | 'done' | 'failed' | 'cancelled';

/** How an image token came to be: not yet, drawn, a draft that was taken, drawn by the model itself between drafts. */
export const Mark = { none: 0, drawn: 1, accepted: 2, target: 3 } as const;

/** What a mark stands for: a model writes tokens, or draws the whole picture in passes. */
export type Unit = 'token' | 'pass';

export interface PictureState {
  /** The request's, until the server says. */
  seed: number;
  /** One entry per image token, in raster order, or per pass: `Mark`. */
  marks: readonly number[];
  isFinished: boolean;
}

/** One request and what is known of it. Plain data; pixels are the views' business. */
export interface DrawingState {
  phase: Phase;
  unit: Unit;
  way: TransportName;
  /** 0 … 1; never falls, whatever is replayed. */
  fraction: number;
  position: number | null;
  etaMs: number | null;
  batchSize: number | null;
  pictures: readonly PictureState[];
  isInterrupted: boolean;
  clock: Clock;
  usage: Usage | null;
  timings: Timings | null;
  error: ApiError | null;
}

/** This page's clock in milliseconds, but for `firstTokenTs` and `lastTokenTs`, which are the server's. */
export interface Clock {
  sentAt: number;
  acceptedAt: number | null;
  startedAt: number | null;
  firstRowAt: number | null;
  endedAt: number | null;
  /** Server's clock at the start of drawing, and at the newest token. */
  startedTs: number | null;
  lastTokenTs: number | null;
}

export interface DrawingShape {
  way: TransportName;
  seeds: readonly number[];
  /** Image tokens of one picture, or its passes. */
  tokens: number;
  unit?: Unit;
  now: number;
}

export function newDrawing({ way, seeds, tokens, unit = 'token', now }: DrawingShape): DrawingState {
  return {
    phase: 'sent',
    unit,
    way,
    fraction: 0,
    position: null,
    etaMs: null,
    batchSize: null,
    pictures: seeds.map((seed) => ({ seed, marks: new Array<number>(tokens).fill(Mark.none), isFinished: false })),
    isInterrupted: false,
    clock: { sentAt: now, acceptedAt: null, startedAt: null, firstRowAt: null, endedAt: null, startedTs: null, lastTokenTs: null },
    usage: null,
    timings: null,
    error: null,
  };
}

export function isOver({ phase }: DrawingState): boolean {
  return phase === 'done' || phase === 'failed' || phase === 'cancelled';
}

/** What an event changes. Late and repeated events change nothing. */
export function reduce(state: DrawingState, event: DrawEvent, now: number): DrawingState {
  if (isOver(state)) return state;
  switch (event.type) {
    case 'accepted':
      return {
        ...state,
        phase: state.phase === 'sent' ? 'queued' : state.phase,
        position: event.position,
        etaMs: event.etaMs,
        pictures: state.pictures.map((picture, i) => ({ ...picture, seed: event.seeds[i] ?? picture.seed })),
        clock: { ...state.clock, acceptedAt: state.clock.acceptedAt ?? now },
      };
    case 'queued':
      return state.phase === 'drawing' ? state : { ...state, phase: 'queued', position: event.position, etaMs: event.etaMs };
    case 'started':
      return {
        ...drawing(state),
        batchSize: event.batchSize,
        clock: { ...state.clock, startedAt: state.clock.startedAt ?? now, startedTs: state.clock.startedTs ?? event.ts },
      };
    case 'progress':
      return { ...drawing(state), fraction: rising(state, event.fraction), etaMs: event.etaMs };
    case 'tokens':
      return withTokens(drawing(state), event);
    case 'preview':
      return { ...withPass(drawing(state), event), clock: { ...state.clock, firstRowAt: state.clock.firstRowAt ?? now } };
    case 'image':
      return {
        ...drawing(state),
        pictures: state.pictures.map((picture, i) =>
          i === event.image ? { seed: event.seed ?? picture.seed, marks: picture.marks.map((mark) => Math.max(mark, Mark.drawn)), isFinished: true } : picture,
        ),
      };
    case 'completed':
      return { ...state, phase: 'done', fraction: 1, isInterrupted: false, usage: event.usage, timings: event.timings, clock: { ...state.clock, endedAt: now } };
    case 'failed':
      return { ...state, phase: 'failed', isInterrupted: false, error: event.error, clock: { ...state.clock, endedAt: now } };
    case 'cancelled':
      return { ...state, phase: 'cancelled', isInterrupted: false, clock: { ...state.clock, endedAt: now } };
    case 'interrupted':
      return { ...state, isInterrupted: true };
    case 'resumed':
      return { ...state, isInterrupted: false };
  }
}

/** Tokens drawn so far, over all pictures. */
export function tokensDrawn(state: DrawingState): number {
  return state.pictures.reduce((sum, { marks }) => sum + marks.filter((mark) => mark !== Mark.none).length, 0);
}

export function tokensTotal(state: DrawingState): number {
  return state.pictures.reduce((sum, { marks }) => sum + marks.length, 0);
}

/** The pass under way, of the picture that is least far; null where there are no passes to tell apart. */
export function passUnderWay({ unit, pictures }: DrawingState): { pass: number; of: number } | null {
  const of = pictures[0]?.marks.length ?? 0;
  if (unit !== 'pass' || of < 2) return null;
  const drawn = Math.min(...pictures.map(({ marks }) => marks.filter((mark) => mark !== Mark.none).length));
  return { pass: Math.min(drawn + 1, of), of };
}

/** True where the server told of drafts: only then is there something to show about them. */
export function hasDrafts({ pictures }: DrawingState): boolean {
  return pictures.some(({ marks }) => marks.some((mark) => mark >= Mark.accepted));
}

function drawing(state: DrawingState): DrawingState {
  return state.phase === 'drawing' ? state : { ...state, phase: 'drawing', position: 0 };
}

/** Only `completed` reaches 1: the last moments are encoding and the way here. */
function rising(state: DrawingState, fraction: number): number {
  return Number.isFinite(fraction) ? Math.max(state.fraction, Math.min(fraction, 1)) : state.fraction;
}

/** What a pass drew says that it is over; an HTTP stream, which merges the progress of several pictures, may say it in no other way. */
function withPass(state: DrawingState, { image, partial }: Extract<DrawEvent, { type: 'preview' }>): DrawingState {
  if (state.unit !== 'pass' || partial === null) return state;
  return withTokens(state, { type: 'tokens', image, from: 0, to: partial + 1, total: null, accepted: null, ts: null });
}

function withTokens(state: DrawingState, event: Extract<DrawEvent, { type: 'tokens' }>): DrawingState {
  const pictures = state.pictures.map((picture, i) => (i === event.image && !picture.isFinished ? { ...picture, marks: marked(picture.marks, event) } : picture));
  return { ...state, pictures, clock: { ...state.clock, lastTokenTs: event.ts === null ? state.clock.lastTokenTs : Math.max(state.clock.lastTokenTs ?? 0, event.ts) } };
}

/** A server may count finer than marks do: a pass is many timesteps. Passes are taken for equal, which drafted ones are not; their pictures say it exactly. */
function marked(marks: readonly number[], { from, to, total, accepted }: Extract<DrawEvent, { type: 'tokens' }>): number[] {
  const isFiner = total !== null && total !== marks.length;
  const [first, end] = isFiner ? [from, to].map((count) => Math.floor((count * marks.length) / total)) as [number, number] : [from, to];
  return marks.map((mark, i) => {
    if (i < first || i >= end || mark !== Mark.none) return mark;
    // A drafted pass is taken or refused as a whole: its last timestep says it as well as any.
    const last = isFiner ? Math.ceil(((i + 1) * total) / marks.length) - 1 : i;
    const taken = accepted?.[last - from];
    return taken === undefined ? Mark.drawn : taken ? Mark.accepted : Mark.target;
  });
}
