import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { JobHandle, QueueState } from '../jobs/backend.js';
import type { CancelReason, JobEvent, JobStatus, OutputFormat } from '../jobs/job.js';
import { QUEUE_BUCKETS, REQUEST_BUCKETS } from './buckets.js';

export type RequestOutcome = 'ok' | 'client_error' | 'rejected' | 'cancelled' | 'timeout' | 'error';
export type RejectReason = 'queue_full' | 'too_large' | 'loading' | 'draining';

export interface JobMetrics {
  request(model: string, api: string, outcome: RequestOutcome, seconds: number): void;
  rejected(reason: RejectReason): void;
  cancelled(reason: CancelReason, phase: 'queued' | 'running'): void;
  queueWait(model: string, seconds: number): void;
  promptTokens(model: string, tokens: number): void;
  image(model: string, format: OutputFormat, pixels: number): void;
  /** Read at scrape; until then the gauges are absent, which is what "not serving" looks like. */
  watchQueue(model: string, read: () => QueueState): void;
}

/** What the backend's jobs tell the metrics by themselves, whoever submitted them. */
export function jobObserver(metrics: JobMetrics): (job: JobHandle, event: JobEvent, before: JobStatus) => void {
  return (_job, event, before) => {
    if (event.kind === 'cancelled') metrics.cancelled(event.reason, before === 'queued' ? 'queued' : 'running');
  };
}

export function createJobMetrics(registry: Registry): JobMetrics {
  const registers = [registry];
  const requests = new Counter({
    name: 'ardiff_requests_total',
    help: 'Requests answered, by what came of them.',
    labelNames: ['model', 'api', 'outcome'],
    registers,
  });
  const duration = new Histogram({
    name: 'ardiff_request_duration_seconds',
    help: 'Arrival to last byte of a request for pictures.',
    labelNames: ['model', 'api', 'stream'],
    buckets: REQUEST_BUCKETS,
    registers,
  });
  const queueSeconds = new Histogram({
    name: 'ardiff_request_queue_seconds',
    help: 'Submission of a job to admission of its first picture.',
    labelNames: ['model', 'priority'],
    buckets: QUEUE_BUCKETS,
    registers,
  });
  const rejected = new Counter({
    name: 'ardiff_requests_rejected_total',
    help: 'Requests refused at admission.',
    labelNames: ['reason'],
    registers,
  });
  const cancellations = new Counter({
    name: 'ardiff_cancellations_total',
    help: 'Jobs ended before their pictures were done.',
    labelNames: ['reason', 'phase'],
    registers,
  });
  const prompt = new Counter({
    name: 'ardiff_prompt_tokens_total',
    help: 'Text tokens of accepted requests, over all guidance rows.',
    labelNames: ['model'],
    registers,
  });
  const images = new Counter({ name: 'ardiff_images_total', help: 'Pictures finished.', labelNames: ['model', 'format'], registers });
  const pixels = new Counter({ name: 'ardiff_image_pixels_total', help: 'Their pixels.', labelNames: ['model', 'format'], registers });
  return {
    request: (model, api, outcome, seconds) => {
      requests.inc({ model, api, outcome });
      duration.observe({ model, api, stream: 'false' }, seconds);
    },
    rejected: (reason) => {
      rejected.inc({ reason });
    },
    cancelled: (reason, phase) => {
      cancellations.inc({ reason, phase });
    },
    queueWait: (model, seconds) => {
      queueSeconds.observe({ model, priority: 'normal' }, seconds);
    },
    promptTokens: (model, tokens) => {
      prompt.inc({ model }, tokens);
    },
    image: (model, format, count) => {
      images.inc({ model, format });
      pixels.inc({ model, format }, count);
    },
    watchQueue: (model, read) => {
      const gauge = (name: string, help: string, value: (queue: QueueState) => number): void => {
        new Gauge({
          name,
          help,
          labelNames: ['model'],
          registers,
          collect() {
            this.set({ model }, value(read()));
          },
        });
      };
      gauge('ardiff_requests_running', 'Jobs with a picture in the batch.', (queue) => queue.running);
      gauge('ardiff_requests_waiting', 'Jobs of which nothing has started.', (queue) => queue.waiting);
      gauge('ardiff_queue_capacity', 'Jobs that may wait before new ones are refused.', (queue) => queue.capacity);
    },
  };
}
