import type { JobHandle } from './backend.js';
import { isFinal, unitsPerImage, type JobEvent } from './job.js';
import { predictWaitSeconds } from './queue-eta.js';
import { Throughput } from './throughput.js';

/** One live job: per picture, the image tokens drawn so far. */
interface LiveJob {
  tokensPerImage: number;
  drawn: number[];
}

/**
 * What the server has to do for one model and how fast it does it, learned from the events of its jobs. Admission and the
 * `ardiff_queue_eta_seconds` gauge read the same prediction. Where several models share the engine, each one's speed is what
 * the others left of it of late.
 */
export class Workload {
  /** In the order of submission, which is the order in which pictures start. */
  private readonly live = new Map<string, LiveJob>();
  private readonly throughput = new Throughput();

  constructor(
    /** Pictures drawn at once. */
    private readonly slots: number,
    private readonly nowSeconds: () => number = () => performance.now() / 1000,
  ) {}

  /** Every event of every job, as the backend tells its observer. */
  observe(job: Pick<JobHandle, 'id' | 'request' | 'status'>, event: JobEvent): void {
    if (isFinal(job.status)) this.remove(job.id);
    else this.note(this.find(job), event);
  }

  /** Seconds until a request that comes now would start; null while no speed was measured. */
  get waitSeconds(): number | null {
    const { tokensPerSecond } = this.throughput;
    if (tokensPerSecond === null) return null;
    const lacking = [...this.live.values()].flatMap(({ tokensPerImage, drawn }) => drawn.map((count) => ({ started: count > 0, left: tokensPerImage - count })));
    const left = (started: boolean): number[] => lacking.filter((picture) => picture.started === started && picture.left > 0).map((picture) => picture.left);
    return predictWaitSeconds({ running: left(true), waiting: left(false), slots: this.slots, tokensPerSecond });
  }

  private find({ id, request }: Pick<JobHandle, 'id' | 'request'>): LiveJob {
    let job = this.live.get(id);
    if (job === undefined) {
      this.throughput.begin(this.nowSeconds());
      job = { tokensPerImage: unitsPerImage(request), drawn: request.seeds.map(() => 0) };
      this.live.set(id, job);
    }
    return job;
  }

  private note({ drawn }: LiveJob, event: JobEvent): void {
    if (event.kind !== 'tokens') return;
    const before = drawn[event.image] ?? Infinity;
    if (event.to <= before) return;
    drawn[event.image] = event.to;
    this.throughput.drawn(event.to - before, this.nowSeconds());
  }

  private remove(id: string): void {
    this.live.delete(id);
    if (this.live.size === 0) this.throughput.end();
  }
}

/** That of every model that is served. */
export class Workloads {
  private readonly byModel: ReadonlyMap<string, Workload>;

  /** `slots`: pictures drawn at once, of each model. */
  constructor(models: readonly string[], slots: number, nowSeconds?: () => number) {
    this.byModel = new Map(models.map((model) => [model, new Workload(slots, nowSeconds)]));
  }

  of(model: string): Workload {
    const found = this.byModel.get(model);
    if (found === undefined) throw new Error(`no model ${model} is served`);
    return found;
  }

  observe(job: Pick<JobHandle, 'id' | 'request' | 'status'>, event: JobEvent): void {
    this.of(job.request.model).observe(job, event);
  }
}
