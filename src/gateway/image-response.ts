import type { JobHandle } from '../jobs/backend.js';
import { addCounts, NO_DRAFTS } from '../jobs/draft-counts.js';
import type { JobAcceleration, JobImage, JobRequest, JobResult, JobTimings } from '../jobs/job.js';
import { formatSize } from '../model/sizes.js';
import type { AccelerationUsage, ImagesResponse, ImagesTimings, ImagesUsage } from './schemas.js';

/** The answer of POST /v1/images/generations, whenever it is asked for: the same job gives the same answer. */
export function toResponse({ request, createdAt }: Pick<JobHandle, 'request' | 'createdAt'>, { images, timings }: JobResult): ImagesResponse {
  return {
    created: Math.floor(createdAt / 1000),
    data: images.map((image) => ({ b64_json: toBase64(image.bytes), seed: image.seed })),
    background: 'opaque',
    output_format: request.format,
    size: formatSize(images[0]!),
    quality: request.quality,
    model: request.model,
    usage: usageOf(request, images),
    timings: timingsOf(timings),
  };
}

/** `images`: those that are finished. */
export function usageOf(request: JobRequest, images: readonly JobImage[]): ImagesUsage {
  const { seeds, acceleration } = request;
  const textTokens = textTokensOf(request);
  const outputTokens = tokensPerImage(request) * seeds.length;
  return {
    total_tokens: textTokens + outputTokens,
    input_tokens: textTokens,
    output_tokens: outputTokens,
    input_tokens_details: { text_tokens: textTokens, image_tokens: 0 },
    output_tokens_details: { image_tokens: outputTokens, text_tokens: 0 },
    acceleration: accelerationUsage(acceleration, images),
  };
}

/** A class is one token. */
function textTokensOf(request: JobRequest): number {
  return request.prompt === 'text' ? request.promptRows[0]!.length : 1;
}

/** A model that draws in passes draws a token per pass (docs/contract.md, Randomness). */
function tokensPerImage(request: JobRequest): number {
  return request.prompt === 'text' ? request.gridHeight * request.gridWidth : request.passes;
}

function accelerationUsage({ fewStep, speculation, underLoad }: JobAcceleration, images: readonly JobImage[]): AccelerationUsage {
  const { rounds, draftTokens, acceptedTokens, gateStops } = images.map(({ drafts }) => drafts).reduce(addCounts, NO_DRAFTS);
  // Where some pictures were drawn as the request said and others not, it is named as what it was for the former.
  const isUnderLoad = images.length > 0 && images.every(({ throughput }) => throughput);
  return {
    mode: isUnderLoad ? 'off' : (speculation?.mode ?? 'off'),
    few_step: isUnderLoad ? underLoad : fewStep,
    rounds,
    draft_tokens: draftTokens,
    accepted_tokens: acceptedTokens,
    gate_stops: gateStops,
    ...(images.some(({ throughput }) => throughput) ? { throughput: true } : {}),
  };
}

/** Seconds → milliseconds with two digits. */
export function timingsOf({ queue, draw, encode, total }: JobTimings): ImagesTimings {
  const ms = (seconds: number): number => Math.round(seconds * 1e5) / 100;
  return { queue_ms: ms(queue), draw_ms: ms(draw), encode_ms: ms(encode), total_ms: ms(total) };
}

/** What browsers and proxies show of a server's times (W3C Server Timing). */
export function serverTiming(timings: JobTimings): string {
  const { queue_ms: queue, draw_ms: draw, encode_ms: encode, total_ms: total } = timingsOf(timings);
  return `queue;dur=${queue}, draw;dur=${draw}, encode;dur=${encode}, total;dur=${total}`;
}

export function toBase64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}
