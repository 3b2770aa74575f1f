import { Registry } from 'prom-client';
import { createHttpMetrics, type HttpMetrics } from './http.js';
import { createJobMetrics, type JobMetrics } from './jobs.js';
import { render, type MetricsSource } from './merge.js';
import { createModelMetrics, type ModelMetrics } from './model.js';
import { createPreviewMetrics, type PreviewMetrics } from './previews.js';
import { createProcessMetrics, type BuildInfo } from './process.js';
import { createStreamMetrics, type StreamMetrics } from './streams.js';
import { createWorkerMetrics, type WorkerMetrics } from './workers.js';

/** All groups of the gateway's process. The scheduler's exist in the process of its worker, once its model is loaded. */
export interface Metrics {
  registry: Registry;
  http: HttpMetrics;
  jobs: JobMetrics;
  models: ModelMetrics;
  previews: PreviewMetrics;
  streams: StreamMetrics;
  workers: WorkerMetrics;
  setBuildInfo(info: BuildInfo): void;
  /** Another process whose metrics appear in `render`; returns how to leave them out again. */
  addSource(source: MetricsSource): () => void;
  /** What /metrics answers. */
  render(): Promise<string>;
}

export function createMetrics(registry: Registry = new Registry()): Metrics {
  const sources = new Set<MetricsSource>();
  return {
    registry,
    http: createHttpMetrics(registry),
    jobs: createJobMetrics(registry),
    models: createModelMetrics(registry),
    previews: createPreviewMetrics(registry),
    streams: createStreamMetrics(registry),
    workers: createWorkerMetrics(registry),
    ...createProcessMetrics(registry),
    addSource: (source) => {
      sources.add(source);
      return () => sources.delete(source);
    },
    render: () => render(registry, sources),
  };
}
