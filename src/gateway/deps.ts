import type { JobBackend } from '../jobs/backend.js';
import type { Metrics } from '../metrics/metrics.js';
import type { ServedModel } from '../model/served-model.js';
import type { ServingStatus } from './admission.js';

/** What the gateway is served by; main changes it as the process goes from loading to draining. */
export interface Serving {
  status: ServingStatus;
  models: readonly ServedModel[];
  /** Null until the engine is up. */
  backend: JobBackend | null;
}

export interface GatewayDeps {
  serving: Serving;
  metrics: Metrics;
  /** An integer in [0, 2^53) for requests that name no seed. */
  drawSeed: () => number;
  /** The page at `/`. */
  page: string;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
