import type { FewStep, GuidanceSchedule, SamplerName, SpeculationSpec } from '../engine/native-types.js';
import type { ServerError } from '../errors.js';
import { passStepsOf, type PassSteps } from '../model/pass-steps.js';

export type OutputFormat = 'png' | 'jpeg' | 'webp';

/**
 * What a client asked for, checked and complete: every default is filled in, so a job means the same wherever and
 * whenever it runs. Plain data, so that it can travel to another process.
 */
export type JobRequest = TextJob | ClassJob;

interface AnyJob {
  model: string;
  /** Of image tokens. */
  gridHeight: number;
  gridWidth: number;
  /** One picture per seed. */
  seeds: number[];
  /** Network evaluations per guidance row and image token, or per pass. */
  timesteps: number;
  guidanceScale: number;
  acceleration: JobAcceleration;
  /** What the request called it. Timesteps say what it meant; this is only echoed in the answer. */
  quality: 'low' | 'medium' | 'high';
  format: OutputFormat;
  /** 1 … 100; ignored for png. */
  compression: number;
  /**
   * Whole pictures to show on the way, per image: partial i of k once ceil(h * i / (k + 1)) token rows are drawn, of a model
   * that draws in passes the first k passes but the last. Each costs a picture decode.
   */
  partialImages: number;
  /** Finished token rows as small RGB strips, by the model's linear latent → RGB map; cheap. */
  rowPreviews: boolean;
}

/** A caption, drawn token by token. */
export interface TextJob extends AnyJob {
  prompt: 'text';
  /** Token ids of the guidance rows: [conditional] or [conditional, unconditional]. By few steps the first one alone is drawn. */
  promptRows: number[][];
  sampler: SamplerName;
  samplerLevel: number;
  timestepShift: number;
  guidanceSchedule: GuidanceSchedule;
  useNorm: boolean;
}

/** A class of the model, drawn in passes over the whole picture. */
export interface ClassJob extends AnyJob {
  prompt: 'class';
  /** Index in the model's table. */
  classLabel: number;
  passes: number;
  sampler: 'maruyama';
  driftScale: number;
  noiseScale: number;
}

export function passStepsOfJob({ timesteps, acceleration }: ClassJob): PassSteps {
  return passStepsOf(timesteps, acceleration.fewStep, acceleration.speculation !== null);
}

/** What `tokens` events count of a picture: image tokens, or timesteps over all passes. */
export function unitsPerImage(request: JobRequest): number {
  if (request.prompt === 'text') return request.gridHeight * request.gridWidth;
  const { each, last } = passStepsOfJob(request);
  return (request.passes - 1) * each + last;
}

/** How the pictures of a job are drawn, decided with its request: nothing that happens later may change their bytes. */
export interface JobAcceleration {
  /** Jumps of the few-step head per token; 0: the model's own sampler. */
  fewStep: FewStep;
  /** Null: nothing is drafted. */
  speculation: SpeculationSpec | null;
  /**
   * Not 0: a server that runs for throughput may draw a picture that comes into a full batch by so many jumps and without
   * drafts instead. Only where the request left the choice to the server.
   */
  underLoad: FewStep;
}

/** What drafting came to, of one picture or of several; zeros where nothing was drafted. */
export interface DraftCounts {
  rounds: number;
  draftTokens: number;
  acceptedTokens: number;
  /** Rounds whose drafting the entropy gate ended. */
  gateStops: number;
}

export interface JobImage {
  index: number;
  seed: number;
  width: number;
  height: number;
  format: OutputFormat;
  drafts: DraftCounts;
  /** Drawn as `underLoad` says, because many shared the batch when it came in. */
  throughput: boolean;
  bytes: Uint8Array;
}

/** A picture on its way: the whole of it with the unfinished part neutral, or a strip of finished rows. */
export interface JobPreview {
  image: number;
  /** Counts the previews of this kind of this image, from 0. */
  index: number;
  /** `full`: a partial image in the job's own format and size. `rows`: a strip, scaled down, always PNG. */
  kind: 'full' | 'rows';
  format: OutputFormat;
  /** Of the encoded bytes. */
  width: number;
  height: number;
  /** The part of the picture it shows, in the finished picture's pixels. */
  rect: { x: number; y: number; width: number; height: number };
  bytes: Uint8Array;
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

/** Everything that can be seen of a job from outside, in the order it happens. Plain data: it crosses processes. */
export type JobEvent =
  | { kind: 'queued' }
  /** The first picture is in the batch. `batchSize`: sequences running then, this job's included. */
  | { kind: 'started'; worker: string; batchSize: number }
  /**
   * Image tokens [from, to) of `total` are drawn, or timesteps over all passes (`unitsPerImage`). `accepted` names, for speculative steps, which of them were drafts
   * that the target took; absent otherwise.
   */
  | { kind: 'tokens'; image: number; from: number; to: number; total: number; accepted?: boolean[] }
  | { kind: 'preview'; preview: JobPreview }
  | { kind: 'image'; image: JobImage }
  | { kind: 'succeeded'; result: JobResult }
  | { kind: 'failed'; error: ServerError }
  | { kind: 'cancelled'; reason: CancelReason };

/** `disconnect`: the last client that wanted it is gone. `api`: somebody asked. */
export type CancelReason = 'disconnect' | 'api' | 'timeout' | 'shutdown';

/** A finished job stays finished: whatever comes late (a picture after a cancel) changes nothing. */
export function nextStatus(status: JobStatus, event: JobEvent): JobStatus {
  if (isFinal(status)) return status;
  switch (event.kind) {
    case 'queued':
      return status;
    case 'started':
    case 'tokens':
    case 'preview':
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
