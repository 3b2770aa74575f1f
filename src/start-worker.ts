import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyBaseLogger } from 'fastify';
import { onlyDevice, type Config } from './config.js';
import { openEngine } from './engine/open-engine.js';
import type { WorkerReady } from './jobs/ipc.js';
import { hangLimits } from './jobs/hang-watch.js';
import type { JobWorker } from './jobs/job-worker.js';
import { Supervisor, type WorkerState } from './jobs/supervisor.js';
import { spawnWorker } from './jobs/worker-process.js';
import type { Metrics } from './metrics/metrics.js';
import type { ModelManifest } from './model/manifest.js';
import { capacityOf } from './worker/capacity.js';
import { hostModels } from './worker/hosted-models.js';

/** One device, one worker. */
export const WORKER_NAME = 'worker-0';

/** The worker's entry beside this file, in the sources or in the build. */
const HOST = fileURLToPath(new URL(`./worker/host${extname(import.meta.url)}`, import.meta.url));

export interface StartedWorker {
  worker: JobWorker;
  /** Resolves once all models can draw. */
  ready: Promise<WorkerReady>;
  /** After `worker.stop`. */
  close(): void;
}

export interface WorkerContext {
  manifests: readonly ModelManifest[];
  metrics: Metrics;
  log: FastifyBaseLogger;
  /** Of a worker that was up before. */
  onState: (state: WorkerState) => void;
}

/** A process of its own, replaced when it dies. */
export function superviseWorker(config: Config, { manifests, metrics, log, onState }: WorkerContext): StartedWorker {
  const { dtype, threads, kvSequences, maxBatch, throughput, logLevel } = config;
  const supervisor = new Supervisor({
    setup: { name: WORKER_NAME, modelDirectories: manifests.map(({ directory }) => directory), device: onlyDevice(config), dtype, threads, sharedBy: 1, kvSequences, maxBatch, throughput, logLevel },
    spawn: (listener) => spawnWorker(HOST, listener),
    hang: hangLimits(config.workerTimeoutSeconds),
    capacityOf,
    onState,
    observer: {
      up: (isUp, pid) => {
        metrics.workers.up(WORKER_NAME, isUp);
        if (isUp) log.info({ worker: WORKER_NAME, workerPid: pid }, 'worker up');
      },
      ended: (exit, summary, isReplaced) => {
        if (isReplaced) metrics.workers.restarted(exit.kind === 'refused' ? 'exit' : exit.kind);
        log.error({ worker: WORKER_NAME }, `the worker is gone: ${summary}`);
      },
      redelivered: () => {
        metrics.workers.redelivered();
      },
    },
  });
  metrics.addSource(() => supervisor.metrics());
  return { worker: supervisor, ready: supervisor.ready, close: () => undefined };
}

/** In this process, for debuggers and for programs that embed the server: a crash of the engine takes all with it. */
export async function embedWorker(config: Config, { manifests, metrics, log }: WorkerContext): Promise<StartedWorker> {
  const { dtype, threads } = config;
  const { engine, device, cudaVersion } = openEngine({ device: onlyDevice(config), dtype, threads });
  const worker = await hostModels(engine, manifests, { ...config, name: WORKER_NAME }, log);
  metrics.addSource(worker.metrics);
  metrics.workers.up(WORKER_NAME, true);
  return {
    worker,
    ready: Promise.resolve({ engine: engine.info, device, cudaVersion, models: worker.models }),
    close: () => {
      engine.close();
    },
  };
}
