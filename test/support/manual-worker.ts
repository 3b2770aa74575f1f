import { NO_DRAFTS } from '../../src/jobs/draft-counts.js';
import type { JobEvent, JobRequest, TextJob } from '../../src/jobs/job.js';
import type { JobWorker, RunningJob } from '../../src/jobs/job-worker.js';

export const JOB_REQUEST: TextJob = {
  model: 'tiny',
  prompt: 'text',
  promptRows: [[130]],
  gridHeight: 1,
  gridWidth: 1,
  seeds: [1],
  sampler: 'B',
  samplerLevel: 0.8,
  timesteps: 1,
  timestepShift: 1,
  guidanceScale: 1,
  guidanceSchedule: 'constant',
  useNorm: false,
  acceleration: { fewStep: 0, speculation: null, underLoad: 0 },
  quality: 'medium',
  format: 'png',
  compression: 100,
  partialImages: 0,
  rowPreviews: false,
};

export const STARTED: JobEvent & { kind: 'started' } = { kind: 'started', worker: 'worker-0', batchSize: 1 };

export const tokens = (from: number, to: number, image = 0): JobEvent & { kind: 'tokens' } => ({ kind: 'tokens', image, from, to, total: 1000 });

export function preview(kind: 'full' | 'rows', index: number, { image = 0, bytes = 1, y = 0, height = 8 } = {}): JobEvent & { kind: 'preview' } {
  const rect = { x: 0, y, width: 8, height };
  return { kind: 'preview', preview: { image, index, kind, format: 'png', width: 8, height: 8, rect, bytes: new Uint8Array(bytes) } };
}

export const picture = (index = 0, bytes = 1): JobEvent & { kind: 'image' } => ({
  kind: 'image',
  image: { index, seed: index, width: 8, height: 8, format: 'png', drafts: NO_DRAFTS, throughput: false, bytes: new Uint8Array(bytes) },
});

export const DONE: JobEvent = { kind: 'succeeded', result: { images: [], timings: { queue: 0, draw: 0, encode: 0, total: 0 } } };

/** A worker driven by hand. */
export class ManualWorker implements JobWorker {
  readonly requests: JobRequest[] = [];
  readonly emits: ((event: JobEvent) => void)[] = [];
  readonly watched: boolean[] = [];
  cancelled = 0;
  stopped = false;

  start(request: JobRequest, emit: (event: JobEvent) => void): RunningJob {
    this.requests.push(request);
    this.emits.push(emit);
    return {
      cancel: () => {
        this.cancelled += 1;
      },
      watch: (watched) => {
        this.watched.push(watched);
      },
    };
  }

  capacityOf(): { neededBlocks: number; totalBlocks: number } {
    return { neededBlocks: 1, totalBlocks: 1 };
  }

  async stop(): Promise<void> {
    this.stopped = true;
  }
}
