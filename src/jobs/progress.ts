import type { LogEntry } from './event-log.js';
import { unitsPerImage, type JobEvent, type JobRequest } from './job.js';

/** Where a job is. `prefill`: the prompt is read; `ar`: image tokens are drawn; `encode`: a picture is finished. */
export interface Progress {
  stage: 'prefill' | 'ar' | 'encode';
  /** Of the stage, of `image`: tokens drawn, or pictures finished. */
  step: number;
  total: number;
  /** 0 … 1 over all stages and all pictures of the job. It never falls. */
  fraction: number;
  /** Until the job is done, by its own pace so far; null while that is unknown. */
  etaMs: number | null;
  /** Which picture moved; null for the job as a whole. */
  image: number | null;
}

/** What has been seen of a job so far: a value, one per watcher. */
export interface ProgressState {
  /** Image tokens of one picture, or timesteps of all its passes. */
  readonly tokensPerImage: number;
  /** Per picture: tokens drawn, the high-water mark. */
  readonly drawn: readonly number[];
  readonly finished: readonly boolean[];
  /** Of the `started` event, in milliseconds since 1970; null before. */
  readonly startedAt: number | null;
}

/** Share of a picture's work that is left once its tokens are drawn: the decode and the encoding. An estimate; bars only need it to be small and not nothing. */
const FINISH_SHARE = 0.04;

export function startProgress(request: JobRequest): ProgressState {
  const { seeds } = request;
  return { tokensPerImage: unitsPerImage(request), drawn: seeds.map(() => 0), finished: seeds.map(() => false), startedAt: null };
}

/**
 * The next state, and what to show of it: null where the event moves nothing. Pure: whoever feeds the same entries, whole
 * or trimmed, ends at the same fraction, because token events name how far they got and not how far they went.
 */
export function advance(state: ProgressState, { event, ts }: LogEntry): { state: ProgressState; progress: Progress | null } {
  const next = apply(state, event, ts);
  if (next === state) return { state, progress: null };
  const fraction = fractionOf(next);
  return { state: next, progress: { ...describe(next, event), fraction, etaMs: etaOf(next, fraction, ts) } };
}

/** 0 … 1; 1 only when every picture is finished. */
export function fractionOf({ tokensPerImage, drawn, finished }: ProgressState): number {
  const tokens = drawn.reduce((sum, count) => sum + count, 0) / (tokensPerImage * drawn.length);
  const pictures = finished.filter(Boolean).length / finished.length;
  return pictures === 1 ? 1 : (1 - FINISH_SHARE) * tokens + FINISH_SHARE * pictures;
}

/** The same state object where nothing moved: replayed tokens after a crash, a second `started`, previews. */
function apply(state: ProgressState, event: JobEvent, ts: number): ProgressState {
  switch (event.kind) {
    case 'started':
      return state.startedAt === null ? { ...state, startedAt: ts } : state;
    case 'tokens': {
      if (event.to <= (state.drawn[event.image] ?? Infinity)) return state;
      return { ...state, startedAt: state.startedAt ?? ts, drawn: state.drawn.with(event.image, Math.min(event.to, state.tokensPerImage)) };
    }
    case 'image': {
      const { index } = event.image;
      if (state.finished[index] !== false) return state;
      return { ...state, drawn: state.drawn.with(index, state.tokensPerImage), finished: state.finished.with(index, true) };
    }
    default:
      return state;
  }
}

function describe({ tokensPerImage, drawn, finished }: ProgressState, event: JobEvent): Pick<Progress, 'stage' | 'step' | 'total' | 'image'> {
  switch (event.kind) {
    case 'tokens':
      return { stage: 'ar', step: drawn[event.image] ?? 0, total: tokensPerImage, image: event.image };
    case 'image':
      return { stage: 'encode', step: finished.filter(Boolean).length, total: finished.length, image: event.image.index };
    default:
      return { stage: 'prefill', step: 0, total: 1, image: null };
  }
}

function etaOf({ startedAt }: ProgressState, fraction: number, ts: number): number | null {
  if (fraction === 1) return 0;
  if (startedAt === null || fraction === 0 || ts <= startedAt) return null;
  return Math.round(((ts - startedAt) * (1 - fraction)) / fraction);
}
