import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyBaseLogger } from 'fastify';
import { onlyDevice, type Config } from './config.js';
import { openEngine } from './engine/open-engine.js';
import type { WorkerReady } from './jobs/ipc.js';
import { hangLimits } from './jobs/hang-watch.js';
import type { JobWorker } from './jobs/job-worker.js';
import { Supervisor, type WorkerState, type WorkerStatus } from './jobs/supervisor.js';
import { spawnWorker } from './jobs/worker-process.js';
import type { Metrics } from './metrics/metrics.js';
import type { ModelManifest } from './model/manifest.js';
import { capacityOf } from './worker/capacity.js';
import { hostModels } from './worker/hosted-models.js';

/** One device, one worker: `worker-0` is that of the first. */
const nameOf = (index: number): string => `worker-${index}`;

/** The worker's entry beside this file, in the sources or in the build. */
const HOST = fileURLToPath(new URL(`./worker/host${extname(import.meta.url)}`, import.meta.url));

export interface StartedWorker {
  worker: JobWorker;
  names: readonly string[];
  /** Resolves once one of them has loaded all models. */
  ready: Promise<WorkerReady>;
  /** All have; rejects when one cannot, though others may serve by then. */
  complete: Promise<void>;
  /** Jobs that one of them draws; null: there is only the one. */
  running: ((worker: string, model: string) => number) | null;
  /** After `worker.stop`. */
  close(): void;
}

export interface WorkerContext {
  manifests: readonly ModelManifest[];
  metrics: Metrics;
  log: FastifyBaseLogger;
  onState: (state: WorkerState, workers: readonly WorkerStatus[]) => void;
}

/** A process for each device, replaced when it dies. */
export function superviseWorkers(config: Config, { manifests, metrics, log, onState }: WorkerContext): StartedWorker {
  const { devices, dtype, threads, kvSequences, maxBatch, throughput, logLevel } = config;
  const modelDirectories = manifests.map(({ directory }) => directory);
  const sharedBy = Math.max(1, devices.filter((device) => !device.startsWith('cuda')).length);
  const supervisor = new Supervisor({
    setups: devices.map((device, i) => ({ name: nameOf(i), modelDirectories, device, dtype, threads, sharedBy, kvSequences, maxBatch, throughput, logLevel })),
    spawn: (listener) => spawnWorker(HOST, listener),
    hang: hangLimits(config.workerTimeoutSeconds),
    capacityOf,
    onState,
    observer: {
      up: (worker, isUp, pid, device) => {
        metrics.workers.up(worker, isUp);
        if (isUp) log.info({ worker, workerPid: pid, device }, 'worker up');
      },
      ended: (worker, exit, summary, isReplaced) => {
        if (isReplaced) metrics.workers.restarted(exit.kind === 'refused' ? 'exit' : exit.kind);
        log.error({ worker }, `the worker is gone: ${summary}`);
      },
      redelivered: () => {
        metrics.workers.redelivered();
      },
    },
  });
  for (const source of supervisor.metricsSources) metrics.addSource(source);
  const { ready, complete } = supervisor;
  const running = (worker: string, model: string): number => supervisor.runningOn(worker, model);
  return { worker: supervisor, names: devices.map((_, i) => nameOf(i)), ready, complete, running, close: () => undefined };
}

/** In this process, for debuggers and for programs that embed the server: a crash of the engine takes all with it. */
export async function embedWorker(config: Config, { manifests, metrics, log, onState }: WorkerContext): Promise<StartedWorker> {
  const { dtype, threads } = config;
  const { engine, device, cudaVersion } = openEngine({ device: onlyDevice(config), dtype, threads });
  const name = nameOf(0);
  const worker = await hostModels(engine, manifests, { ...config, name }, log);
  metrics.addSource(worker.metrics);
  metrics.workers.up(name, true);
  onState('ready', [{ name, status: 'ready', loaded: 1, device }]);
  return {
    worker,
    names: [name],
    complete: Promise.resolve(),
    running: null,
    ready: Promise.resolve({ engine: engine.info, device, cudaVersion, models: worker.models }),
    close: () => {
      engine.close();
    },
  };
}
