import type { BackendName, ComputeDtype, EngineInfo } from '../engine/native-types.js';
import type { MetricsSnapshot } from '../metrics/merge.js';
import type { CancelReason, JobEvent, JobRequest, JobResult } from './job.js';
import type { WireError } from './wire-error.js';

/** What a worker process is started with. */
export interface WorkerSetup {
  /** Names it to those who watch its jobs, and in metrics. */
  name: string;
  modelDirectories: readonly string[];
  backend: BackendName;
  dtype: ComputeDtype;
  threads: number;
  kvSequences: number;
  maxBatch: number;
  throughput: boolean;
  logLevel: string;
}

/** Of the loaded model; enough to tell whether a request fits. */
export interface KvMemory {
  blockTokens: number;
  totalBlocks: number;
}

/** A model that a worker has loaded. */
export interface HostedModel {
  id: string;
  kv: KvMemory;
  loadSeconds: number;
}

/** Gateway → worker. Ids are the supervisor's own, unique over all its workers. */
export type ToWorker =
  | { kind: 'load'; setup: WorkerSetup }
  | { kind: 'job'; id: number; request: JobRequest; watched: boolean }
  | { kind: 'watch'; id: number; watched: boolean }
  | { kind: 'cancel'; id: number; reason: CancelReason }
  | { kind: 'metrics'; id: number }
  | { kind: 'stop' };

/** Worker → gateway. Messages are copied by the structured clone of `serialization: 'advanced'`, so bytes stay bytes. */
export type FromWorker =
  | { kind: 'ready'; engine: EngineInfo; models: readonly HostedModel[] }
  /** A model cannot be loaded; the process ends. */
  | { kind: 'refused'; error: WireError }
  /** Events of one step, or of several where nobody watches; in order for each job. */
  | { kind: 'events'; events: { id: number; event: WireEvent }[] }
  /** Once a second. `stepSeconds`: how long the engine has been in its step; 0 while it rests. */
  | { kind: 'alive'; stepSeconds: number }
  | { kind: 'metrics'; id: number; metrics: MetricsSnapshot };

/** A job's event on its way: without the pictures, which went before, and with errors as data. */
export type WireEvent =
  | Exclude<JobEvent, { kind: 'succeeded' } | { kind: 'failed' }>
  | { kind: 'succeeded'; result: Omit<JobResult, 'images'> }
  | { kind: 'failed'; error: WireError };
