import type { DeviceChoice } from '../engine/device-choice.js';
import type { Device } from '../engine/device.js';
import type { ComputeDtype, EngineInfo, MemoryPrice } from '../engine/native-types.js';
import type { MetricsSnapshot } from '../metrics/merge.js';
import type { JobEvent, JobRequest, JobResult } from './job.js';
import type { StopReason } from './job-worker.js';
import type { WireError } from './wire-error.js';

/** What a worker process is started with. */
export interface WorkerSetup {
  /** Names it to those who watch its jobs, and in metrics. */
  name: string;
  modelDirectories: readonly string[];
  /** Once one has been up, its replacements get the device it chose. */
  device: DeviceChoice;
  dtype: ComputeDtype;
  threads: number;
  /** Workers that compute on the processor beside each other, this one included. */
  sharedBy: number;
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
  /** Null where the engine computes in the host's memory. */
  memory: MemoryPrice | null;
  loadSeconds: number;
}

/** What a worker that is up can draw, and with what. */
export interface WorkerReady {
  engine: EngineInfo;
  device: Device;
  /** Toolkit that the addon's cuda backend was built with; empty: it has none. */
  cudaVersion: string;
  models: readonly HostedModel[];
}

/** Gateway → worker. Ids are the supervisor's own, unique over all its workers. */
export type ToWorker =
  | { kind: 'load'; setup: WorkerSetup }
  | { kind: 'job'; id: number; request: JobRequest; watched: boolean }
  | { kind: 'watch'; id: number; watched: boolean }
  | { kind: 'cancel'; id: number; reason: StopReason }
  | { kind: 'metrics'; id: number }
  | { kind: 'stop' };

/** Worker → gateway. Messages are copied by the structured clone of `serialization: 'advanced'`, so bytes stay bytes. */
export type FromWorker =
  | ({ kind: 'ready' } & WorkerReady)
  /** A model cannot be loaded; the process ends. */
  | { kind: 'refused'; error: WireError }
  /** Events of one step, or of several where nobody watches; in order for each job. */
  | { kind: 'events'; events: { id: number; event: WireEvent }[] }
  /** Once a second. `stepSeconds`: how long the engine has been in its step; 0 while it rests. `loaded`: share of the weights, until it is `ready`. */
  | { kind: 'alive'; stepSeconds: number; loaded: number }
  | { kind: 'metrics'; id: number; metrics: MetricsSnapshot };

/** A job's event on its way: without the pictures, which went before, and with errors as data. */
export type WireEvent =
  | Exclude<JobEvent, { kind: 'succeeded' } | { kind: 'failed' }>
  | { kind: 'succeeded'; result: Omit<JobResult, 'images'> }
  | { kind: 'failed'; error: WireError };
