import type { GuidanceSchedule, SamplerName } from '../engine/native-types.js';
import type { ServerError } from '../errors.js';

export type OutputFormat = 'png' | 'jpeg' | 'webp';

/**
 * What a client asked for, checked and complete: every default is filled in, so a job means the same wherever and
 * whenever it runs. Plain data, so that it can travel to another process.
 */
export interface JobRequest {
  model: string;
  /** Token ids of the guidance rows: [conditional] or [conditional, unconditional]. */
  promptRows: number[][];
  gridHeight: number;
  gridWidth: number;
  /** One picture per seed. */
  seeds: number[];
  sampler: SamplerName;
  samplerLevel: number;
  timesteps: number;
  timestepShift: number;
  guidanceScale: number;
  guidanceSchedule: GuidanceSchedule;
  useNorm: boolean;
  format: OutputFormat;
  /** 1 … 100; ignored for png. */
  compression: number;
}

export interface JobImage {
  index: number;
  seed: number;
  width: number;
  height: number;
  format: OutputFormat;
  bytes: Buffer;
}

/** Wall times in seconds. */
export interface JobTimings {
  queue: number;
  /** Admission of the first picture to the last picture's pixels. */
  draw: number;
  encode: number;
  total: number;
}

export interface JobResult {
  images: JobImage[];
  timings: JobTimings;
}

export type JobStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';

/** Everything that can be seen of a job from outside, in the order it happens. */
export type JobEvent =
  | { kind: 'queued' }
  | { kind: 'started' }
  | { kind: 'tokens'; image: number; emitted: number; total: number }
  | { kind: 'image'; image: JobImage }
  | { kind: 'succeeded'; result: JobResult }
  | { kind: 'failed'; error: ServerError }
  | { kind: 'cancelled' };

/** A finished job stays finished: whatever comes late (a picture after a cancel) changes nothing. */
export function nextStatus(status: JobStatus, event: JobEvent): JobStatus {
  if (isFinal(status)) return status;
  switch (event.kind) {
    case 'queued':
      return status;
    case 'started':
    case 'tokens':
    case 'image':
      return 'running';
    case 'succeeded':
      return 'succeeded';
    case 'failed':
      return 'failed';
    case 'cancelled':
      return 'cancelled';
  }
}

export function isFinal(status: JobStatus): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'cancelled';
}
