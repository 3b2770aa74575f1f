import { Registry } from 'prom-client';
import { createHttpMetrics, type HttpMetrics } from './http.js';
import { createJobMetrics, type JobMetrics } from './jobs.js';
import { createModelMetrics, type ModelMetrics } from './model.js';
import { createProcessMetrics, type BuildInfo } from './process.js';

/** All groups but the scheduler's, which exists once its model is loaded. */
export interface Metrics {
  registry: Registry;
  http: HttpMetrics;
  jobs: JobMetrics;
  models: ModelMetrics;
  setBuildInfo(info: BuildInfo): void;
}

export function createMetrics(registry: Registry = new Registry()): Metrics {
  return {
    registry,
    http: createHttpMetrics(registry),
    jobs: createJobMetrics(registry),
    models: createModelMetrics(registry),
    ...createProcessMetrics(registry),
  };
}
