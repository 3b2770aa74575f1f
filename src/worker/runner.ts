import type { DecodedImage, FewStep, SequenceSpec, SpeculationSpec } from '../engine/native-types.js';
import { ServerError, toServerError } from '../errors.js';
import { encodeImage } from '../image/encode.js';
import { addCounts, countRounds, NO_DRAFTS } from '../jobs/draft-counts.js';
import { passStepsOfJob, type ClassJob, type DraftCounts, type JobEvent, type JobImage, type JobPreview, type JobRequest, type TextJob } from '../jobs/job.js';
import type { RunningJob, StopReason } from '../jobs/job-worker.js';
import type { SchedulerMetrics } from '../metrics/scheduler.js';
import type { WasteReason } from '../metrics/wasted.js';
import { PreviewStream, type PreviewModel } from './preview-stream.js';
import type { SequenceEvent } from './scheduler/apply-step.js';
import type { PreviewPlan } from './scheduler/preview-plan.js';
import { partialTimestepCounts, partialTokenCounts } from './scheduler/previews.js';
import type { SequenceListener, StepLoop } from './scheduler/step-loop.js';

const seconds = (since: number): number => (performance.now() - since) / 1000;

/** The way of a job through the worker: sequences → engine events → encoded pictures → job events. */
export class Runner {
  private nextId = 0;

  constructor(
    private readonly loop: StepLoop,
    private readonly metrics: SchedulerMetrics,
    /** Of this worker, as watchers of its jobs see it. */
    private readonly name: string,
    private readonly model: PreviewModel,
  ) {}

  start(request: JobRequest, emit: (event: JobEvent) => void): RunningJob {
    const run = new JobRun(request, this.loop, this.metrics, this.name, this.model, emit, () => this.takeId());
    return { cancel: (reason) => run.cancel(reason), watch: () => undefined };
  }

  /** uint32, and never one that is still live: pictures can outlast 2^32 others only in theory. */
  private takeId(): number {
    do this.nextId = (this.nextId + 1) >>> 0;
    while (this.loop.state.byId.has(this.nextId));
    return this.nextId;
  }
}

/** One job: its sequences, its finished pictures, and the single end it comes to. */
class JobRun {
  private readonly submitted = performance.now();
  private readonly ids: number[];
  private readonly images: JobImage[] = [];
  private readonly previews: PreviewStream[];
  /** Per picture. */
  private readonly drafts: DraftCounts[];
  private readonly underLoad = new Set<number>();
  private startedAt: number | null = null;
  private encodeSeconds = 0;
  private ended = false;

  constructor(
    private readonly request: JobRequest,
    private readonly loop: StepLoop,
    private readonly metrics: SchedulerMetrics,
    private readonly worker: string,
    model: PreviewModel,
    private readonly emit: (event: JobEvent) => void,
    takeId: () => number,
  ) {
    const wanted = previewPlanOf(request, model);
    const sink = {
      isClosed: () => this.ended,
      emit: (preview: JobPreview) => {
        this.emit({ kind: 'preview', preview });
      },
      spent: (time: number) => {
        metrics.preview(time);
      },
    };
    this.previews = request.seeds.map((_, index) => new PreviewStream(index, request, model, sink));
    this.drafts = request.seeds.map(() => NO_DRAFTS);
    const rows = request.prompt === 'text' ? request.promptRows.map((ids) => Int32Array.from(ids)) : [];
    this.ids = request.seeds.map((seed, index) => {
      const spec = specOfPicture(request, rows, seed, takeId());
      let lastToken = this.submitted;
      const listener: SequenceListener = {
        onEvent: (event) => {
          if (event.kind === 'tokens') lastToken = this.noteTokens(event, lastToken);
          this.onEvent(index, event);
        },
        onError: (error) => {
          this.fail(error);
        },
      };
      loop.add(spec, listener, wanted, request.prompt === 'text' ? underLoadSpec(request, spec) : null);
      return spec.id;
    });
  }

  cancel(reason: StopReason): void {
    if (!this.ended) this.end(reason);
  }

  /** Stops what still runs; nothing is emitted afterwards. */
  private end(reason: WasteReason): void {
    this.ended = true;
    this.metrics.abandoned(this.ids, reason);
    for (const id of this.ids) this.loop.cancel(id);
  }

  /** Tokens of one step arrive together, so each is counted as an equal part of the time since the step before. */
  private noteTokens({ emitted, count }: { emitted: number; count: number }, before: number): number {
    const now = performance.now();
    const elapsed = (now - before) / 1000;
    if (emitted === count) this.metrics.firstToken(elapsed);
    else this.metrics.imageTokens(elapsed / count, count);
    return now;
  }

  private onEvent(index: number, event: SequenceEvent): void {
    if (this.ended) return;
    switch (event.kind) {
      case 'started':
        if (event.underLoad) this.underLoad.add(index);
        if (this.startedAt === null) {
          this.startedAt = performance.now();
          this.emit({ kind: 'started', worker: this.worker, batchSize: this.loop.state.running.length });
        }
        break;
      case 'tokens':
        this.noteDrafts(index, event);
        break;
      case 'rows':
        this.orFail(this.previews[index]!.rows(event.begin, event.end, event.tokens));
        break;
      case 'partial':
        this.orFail(this.previews[index]!.partial(event.image));
        break;
      case 'image':
        void this.finishImage(index, event.image);
        break;
    }
  }

  private noteDrafts(image: number, { count, emitted, total, speculation }: SequenceEvent & { kind: 'tokens' }): void {
    const event = { kind: 'tokens' as const, image, from: emitted - count, to: emitted, total };
    if (speculation === undefined) {
      this.emit(event);
      return;
    }
    const { accepted, rounds } = speculation;
    this.drafts[image] = addCounts(this.drafts[image]!, countRounds(rounds));
    this.emit({ ...event, accepted });
  }

  private orFail(shown: Promise<void>): void {
    shown.catch((thrown: unknown) => {
      this.fail(thrown);
    });
  }

  private async finishImage(index: number, drawn: DecodedImage): Promise<void> {
    const { format, compression, seeds } = this.request;
    const begin = performance.now();
    try {
      const bytes = await encodeImage(drawn, format, compression);
      const elapsed = seconds(begin);
      // Nothing of a picture follows the picture.
      await this.previews[index]!.settled();
      if (this.ended) return;
      this.encodeSeconds += elapsed;
      this.metrics.encode(elapsed);
      const image = {
        index,
        seed: seeds[index]!,
        width: drawn.width,
        height: drawn.height,
        format,
        drafts: this.drafts[index]!,
        throughput: this.underLoad.has(index),
        bytes,
      };
      this.images[index] = image;
      this.emit({ kind: 'image', image });
      if (this.images.filter(Boolean).length === seeds.length) this.succeed();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  private succeed(): void {
    this.ended = true;
    this.metrics.delivered(this.ids);
    const total = seconds(this.submitted);
    const queue = ((this.startedAt ?? this.submitted) - this.submitted) / 1000;
    const timings = { queue, draw: total - queue - this.encodeSeconds, encode: this.encodeSeconds, total };
    this.emit({ kind: 'succeeded', result: { images: this.images, timings } });
  }

  /** One lost picture loses the job: its siblings are stopped, so that the answer is one error and not a part. */
  private fail(thrown: unknown): void {
    if (this.ended) return;
    this.end('error');
    this.emit({ kind: 'failed', error: toServerError(thrown) });
  }
}

/** What a job wants to show on the way. Rows that its model cannot show are refused, never left out in silence. */
function previewPlanOf(request: JobRequest, { latentRgb }: PreviewModel): PreviewPlan {
  const { model, gridHeight, gridWidth, partialImages, rowPreviews } = request;
  if (rowPreviews && latentRgb === null) {
    throw new ServerError('unsupported_value', `The model '${model}' has no preview.json, so its rows cannot be shown while they are drawn.`);
  }
  if (request.prompt === 'class') return { partials: partialTimestepCounts(request.passes, passStepsOfJob(request).each, partialImages), rows: false };
  return { partials: partialTokenCounts(gridHeight, gridWidth, partialImages), rows: rowPreviews };
}

/** The engine's view of one picture of a job. promptRows: the job's own, in the engine's form. */
export function specOfPicture(request: JobRequest, promptRows: Int32Array[], seed: number, id: number): SequenceSpec {
  return request.prompt === 'text' ? specOf(request, promptRows, seed, id) : specOfClass(request, seed, id);
}

/** Of a job whose picture is asked for by a caption. */
export function specOf(request: TextJob, promptRows: Int32Array[], seed: number, id: number): SequenceSpec {
  return {
    id,
    promptRows,
    gridHeight: request.gridHeight,
    gridWidth: request.gridWidth,
    seed,
    sampler: request.sampler,
    samplerLevel: request.samplerLevel,
    timesteps: request.timesteps,
    timestepShift: request.timestepShift,
    guidanceScale: request.guidanceScale,
    imageGuidanceScale: 1,
    guidanceSchedule: request.guidanceSchedule,
    useNorm: request.useNorm,
    ...waysOf(request.acceleration.fewStep, request.acceleration.speculation),
  };
}

/** Likewise, of a model that draws classes. */
export function specOfClass(request: ClassJob, seed: number, id: number): SequenceSpec {
  return {
    id,
    promptRows: [],
    classLabel: request.classLabel,
    gridHeight: request.gridHeight,
    gridWidth: request.gridWidth,
    seed,
    sampler: request.sampler,
    samplerLevel: 0,
    timesteps: request.timesteps,
    timestepShift: 1,
    guidanceScale: request.guidanceScale,
    imageGuidanceScale: 1,
    guidanceSchedule: 'constant',
    driftScale: request.driftScale,
    noiseScale: request.noiseScale,
    useNorm: false,
    ...waysOf(request.acceleration.fewStep, request.acceleration.speculation),
  };
}

/** The same picture by few steps and without drafts; null: the request is drawn as it says in any case. */
function underLoadSpec(request: TextJob, { promptRows, seed, id }: SequenceSpec): SequenceSpec | null {
  const { underLoad: fewStep } = request.acceleration;
  if (fewStep === 0) return null;
  return specOf({ ...request, acceleration: { fewStep, speculation: null, underLoad: 0 } }, promptRows.slice(0, 1), seed, id);
}

function waysOf(fewStep: FewStep, speculation: SpeculationSpec | null): Pick<SequenceSpec, 'fewStep' | 'speculation'> {
  return { ...(fewStep === 0 ? {} : { fewStep }), ...(speculation === null ? {} : { speculation }) };
}
