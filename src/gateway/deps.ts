import type { JobBackend } from '../jobs/backend.js';
import type { WorkerStatus } from '../jobs/supervisor.js';
import type { Workloads } from '../jobs/workload.js';
import type { Metrics } from '../metrics/metrics.js';
import type { ServedModel } from '../model/served-model.js';
import type { ServingStatus } from './admission.js';
import type { PageFile } from './page-files.js';

/** What the gateway is served by; main changes it as the process goes from loading to draining. */
export interface Serving {
  status: ServingStatus;
  models: readonly ServedModel[];
  /** Null until the engine is up. */
  backend: JobBackend | null;
  /** What draws; null until the engine is up. */
  engine: EngineDescription | null;
  /** Who draws, and on which devices. */
  workers: readonly WorkerStatus[];
}

/** Of the engine, for those who ask whether the right one is serving. */
export interface EngineDescription {
  backend: string;
  /** As `--device` takes it; several with commas between them. */
  device: string;
  dtype: string;
  isa: string;
  /** Those it computes with, and their versions: which products are whose. */
  libraries: string;
}

/** How the gateway keeps connections alive, in milliseconds. */
export interface Patience {
  /** Silence on a stream before a comment is sent. */
  heartbeatMs: number;
  /** How long progress of a stream waits, for what comes meanwhile to be told with it; 0: not at all. */
  progressMs: number;
  /** Between two `103 Early Hints` while a client waits for JSON; 0: none. */
  earlyHintsMs: number;
  /** How long a job waits for the retry of a client that named an Idempotency-Key. */
  retryGraceMs: number;
  /** For a client to send its whole request. */
  requestTimeoutMs: number;
  /** Between two pings on a socket; one that does not answer until the next is closed. */
  pingMs: number;
  /** A socket that takes nothing for so long, while something waits for it, is closed. */
  slowReaderMs: number;
}

/** Twenty moves of a bar a second look smooth. Heartbeats: common proxies close after 60 s of silence. Hints: a tenth of what Node's fetch waits. */
export const DEFAULT_PATIENCE: Patience = {
  heartbeatMs: 15_000,
  progressMs: 50,
  earlyHintsMs: 30_000,
  retryGraceMs: 30_000,
  requestTimeoutMs: 60_000,
  pingMs: 20_000,
  slowReaderMs: 10_000,
};

export interface GatewayDeps {
  serving: Serving;
  metrics: Metrics;
  workload: Workloads;
  patience: Patience;
  /** An integer in [0, 2^53) for requests that name no seed. */
  drawSeed: () => number;
  /** Origins beside the server's own whose pages may open sockets; `*`: any. */
  allowedOrigins: readonly string[];
  /** The playground at `/`, by URL path; empty when it is not built. */
  page: ReadonlyMap<string, PageFile>;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
