import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { JobHandle, QueueState } from '../jobs/backend.js';
import type { JobEvent, JobStatus } from '../jobs/job.js';
import { REQUEST_BUCKETS } from './buckets.js';
import { createJobEventMetrics } from './job-events.js';

export type RequestOutcome = 'ok' | 'client_error' | 'rejected' | 'cancelled' | 'timeout' | 'error';
export type RejectReason = 'queue_full' | 'deadline' | 'rate_limit' | 'too_large' | 'loading' | 'draining' | 'auth';

const OUTCOMES: readonly RequestOutcome[] = ['ok', 'client_error', 'rejected', 'cancelled', 'timeout', 'error'];

/**
 * Counters are there from the start, at 0: one that appears with its first event hides that event from rate().
 * Rate limits and keys do not exist yet, so nothing is refused for them.
 */
const REFUSABLE: readonly RejectReason[] = ['queue_full', 'deadline', 'too_large', 'loading', 'draining'];

/** All jobs a backend knows, finished ones too while they are kept. */
export interface JobCensus {
  byState: Readonly<Record<JobStatus, number>>;
  /** Since the oldest unfinished job was accepted; 0 without one. */
  oldestAgeSeconds: number;
}

/** What of a backend is read at scrape. */
export interface WatchedBackend {
  queueOf(model: string): QueueState;
  census(): JobCensus;
}

export interface WatchedWorker {
  name: string;
  /** Jobs with a picture in its batch. */
  running(model: string): number;
}

export interface JobMetrics {
  request(model: string, api: string, outcome: RequestOutcome, seconds: number, stream?: boolean): void;
  rejected(reason: RejectReason): void;
  /** Sees every event of every job, whichever way it came in; the backend's observer. */
  onEvent(job: JobHandle, event: JobEvent, before: JobStatus): void;
  /** Until then the gauges are absent, which is what "not serving" looks like. */
  watchBackend(models: readonly string[], workers: readonly WatchedWorker[], backend: WatchedBackend): void;
  /** `read`: seconds that a request for the model would wait if it came now. */
  watchEta(models: readonly string[], read: (model: string) => number): void;
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
  const rejected = new Counter({
    name: 'ardiff_requests_rejected_total',
    help: 'Requests refused at admission.',
    labelNames: ['reason'],
    registers,
  });
  for (const reason of REFUSABLE) rejected.inc({ reason }, 0);
  return {
    request: (model, api, outcome, seconds, stream = false) => {
      requests.inc({ model, api, outcome });
      duration.observe({ model, api, stream: String(stream) }, seconds);
    },
    rejected: (reason) => {
      rejected.inc({ reason });
    },
    onEvent: createJobEventMetrics(registry),
    watchBackend: (models, workers, backend) => {
      for (const model of models) for (const outcome of OUTCOMES) requests.inc({ model, api: 'images.generations', outcome }, 0);
      watchBackend(registry, models, workers, backend);
    },
    watchEta: (models, read) => {
      new Gauge({
        name: 'ardiff_queue_eta_seconds',
        help: 'Predicted wait of a request that would come now.',
        labelNames: ['model'],
        registers,
        collect() {
          for (const model of models) this.set({ model }, read(model));
        },
      });
    },
  };
}

function watchBackend(registry: Registry, models: readonly string[], workers: readonly WatchedWorker[], backend: WatchedBackend): void {
  const gauge = <T extends string>(name: string, help: string, labelNames: T[], collect: (gauge: Gauge<T>) => void): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        collect(this);
      },
    });
  };
  gauge('ardiff_requests_running', 'Jobs with a picture in the batch.', ['model', 'worker'], (it) => {
    for (const model of models) for (const { name, running } of workers) it.set({ model, worker: name }, running(model));
  });
  // One class of priority until there are more; the label is there so that dashboards need not change then.
  gauge('ardiff_requests_waiting', 'Jobs of which nothing has started.', ['model', 'priority'], (it) => {
    for (const model of models) it.set({ model, priority: 'normal' }, backend.queueOf(model).waiting);
  });
  gauge('ardiff_queue_capacity', 'Jobs that may wait before new ones are refused.', ['model'], (it) => {
    for (const model of models) it.set({ model }, backend.queueOf(model).capacity);
  });
  gauge('ardiff_jobs', 'Jobs by state, finished ones while they can be asked for.', ['state'], (it) => {
    for (const [state, count] of Object.entries(backend.census().byState)) it.set({ state }, count);
  });
  gauge('ardiff_oldest_job_age_seconds', 'Since the oldest unfinished job was accepted; 0 without one.', [], (it) => {
    it.set(backend.census().oldestAgeSeconds);
  });
}
