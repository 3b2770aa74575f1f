import { bytesFromBase64 } from './base64.js';
import { localError, type DrawEvent, type Drawing, type DrawListener } from './events.js';
import type { AccelerationMode, ApiError, ImagesRequest, Timings, Usage } from './frames.js';
import { SseParser, type SseEvent } from './sse-parser.js';

/** What the page shows of GET /v1/models. */
export interface Model {
  id: string;
  sizes: string[];
  default_size: string;
  pixels_per_token: number;
  defaults: { num_inference_steps: number; guidance_scale: number; negative_prompt: string };
  limits: { n: number; num_inference_steps: number; guidance_scale: number; seed: number; prompt_characters: number };
  styles: { name: string; suffix: string }[];
  example_prompts: string[];
  /** Ways of drawing that are calibrated, fastest first; servers of before say nothing. */
  accelerations?: CalibratedAcceleration[];
  /** `class`: a prompt names one of the model's classes; servers of before draw captions. */
  prompt_mode?: 'text' | 'class';
  num_classes?: number;
  /** Over the whole picture, all but the last of them its previews; absent where a picture is drawn token by token. */
  passes?: number;
  /** Finished rows are shown on the way. */
  row_previews?: boolean;
}

export interface CalibratedAcceleration {
  mode: AccelerationMode;
  few_step: number;
  /** Of one picture at a time, against `off`. */
  speedup: number;
  passed: boolean;
}

/** As many whole pictures on the way as OpenAI's API has. */
export const PARTIAL_IMAGES = 3;

const GENERATIONS = '/v1/images/generations';

export async function fetchModels(): Promise<Model[]> {
  const answer = await fetch('/v1/models', { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`/v1/models answered ${answer.status}`);
  return ((await answer.json()) as { data: Model[] }).data;
}

/** The server's counters as text, or null where they are not to be had. */
export async function fetchMetrics(): Promise<string | null> {
  try {
    const answer = await fetch('/metrics');
    return answer.ok ? await answer.text() : null;
  } catch {
    return null;
  }
}

/** One request, one answer. `stream`: partial images and progress by server-sent events; a client that leaves is a cancel. */
export function drawOverHttp(request: ImagesRequest, stream: boolean, listener: DrawListener): Drawing {
  const abort = new AbortController();
  const finish = (error: unknown): void => {
    if (abort.signal.aborted) listener({ type: 'cancelled' });
    else listener({ type: 'failed', error: isApiError(error) ? error : localError('unreachable', 'The connection to the server broke.') });
  };
  run(request, stream, listener, abort.signal).catch(finish);
  return { cancel: () => { abort.abort(); } };
}

async function run(request: ImagesRequest, stream: boolean, listener: DrawListener, signal: AbortSignal): Promise<void> {
  const body = stream ? { ...request, stream: true, partial_images: PARTIAL_IMAGES, stream_options: { include_progress: true } } : request;
  const answer = await fetch(GENERATIONS, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal });
  if (!answer.ok) throw await errorOf(answer);
  if (answer.body !== null && answer.headers.get('content-type')?.startsWith('text/event-stream') === true) {
    await readStream(answer.body, request, listener);
  } else {
    for (const event of eventsOfAnswer((await answer.json()) as JsonAnswer)) listener(event);
  }
}

async function readStream(body: ReadableStream<Uint8Array>, request: ImagesRequest, listener: DrawListener): Promise<void> {
  const reader = body.getReader();
  const parser = new SseParser();
  const decoder = new TextDecoder();
  let left = request.n ?? 1;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    for (const event of parser.push(decoder.decode(value, { stream: true }))) {
      for (const draw of eventsOfSse(event)) {
        if (draw.type === 'failed') throw draw.error;
        // The stream has no end of its own: the last picture carries it.
        if (draw.type === 'completed') left--;
        if (draw.type !== 'completed' || left === 0) listener(draw);
      }
    }
  }
  if (left > 0) throw localError('unreachable', 'The answer ended before the picture did.');
}

interface SseData {
  type?: string;
  b64_json?: string;
  index?: number;
  output_format?: string;
  seed?: number;
  stage?: string;
  step?: number;
  total?: number;
  partial_image_index?: number;
  fraction?: number;
  eta_ms?: number | null;
  usage?: Usage;
  timings?: Timings;
  error?: ApiError;
}

/** What one event of the stream says; nothing for those this page has no use for. */
export function eventsOfSse({ event, data }: SseEvent): DrawEvent[] {
  if (data === '[DONE]') return [];
  const json = JSON.parse(data) as SseData;
  const image = json.index ?? 0;
  const mime = `image/${json.output_format ?? 'png'}`;
  switch (json.type ?? event) {
    case 'image_generation.progress':
      return progressEvents(json);
    case 'image_generation.partial_image':
      return [{ type: 'preview', image, partial: json.partial_image_index ?? null, rect: null, mime, bytes: bytesFromBase64(json.b64_json ?? '') }];
    case 'image_generation.completed':
      return [
        { type: 'image', image, seed: json.seed ?? null, mime, bytes: bytesFromBase64(json.b64_json ?? '') },
        { type: 'completed', usage: json.usage ?? null, timings: json.timings ?? null },
      ];
    default:
      return json.error === undefined ? [] : [{ type: 'failed', error: json.error }];
  }
}

/** While tokens or passes are drawn, progress counts them. */
function progressEvents({ stage, step, total, image, fraction, eta_ms: etaMs }: SseData & { image?: number }): DrawEvent[] {
  const events: DrawEvent[] = fraction === undefined ? [] : [{ type: 'progress', fraction, etaMs: etaMs ?? null }];
  if (stage === 'ar' && step !== undefined) events.push({ type: 'tokens', image: image ?? 0, from: 0, to: step, total: total ?? null, accepted: null, ts: null });
  return events;
}

interface JsonAnswer {
  data: { b64_json: string; seed?: number }[];
  output_format?: string;
  usage?: Usage;
  timings?: Timings;
}

export function eventsOfAnswer(answer: JsonAnswer): DrawEvent[] {
  const mime = `image/${answer.output_format ?? 'png'}`;
  const images = answer.data.map(({ b64_json: base64, seed }, image): DrawEvent => ({ type: 'image', image, seed: seed ?? null, mime, bytes: bytesFromBase64(base64) }));
  return [...images, { type: 'completed', usage: answer.usage ?? null, timings: answer.timings ?? null }];
}

async function errorOf(answer: Response): Promise<ApiError> {
  try {
    const { error } = (await answer.json()) as { error: unknown };
    if (isApiError(error)) return error;
  } catch {
    // A proxy's page, say; the status is all there is.
  }
  return localError('unexpected_answer', `The server answered ${answer.status}.`);
}

function isApiError(value: unknown): value is ApiError {
  return typeof value === 'object' && value !== null && 'message' in value && 'code' in value && !(value instanceof DOMException);
}
