import type { FastifyInstance, LightMyRequestResponse as Reply } from 'fastify';
import type { Device } from '../../src/engine/device.js';
import { wrapEngine } from '../../src/engine/engine.js';
import { buildApp, closeApp } from '../../src/gateway/app.js';
import { DEFAULT_PATIENCE, type Patience, type Serving } from '../../src/gateway/deps.js';
import type { PageFile } from '../../src/gateway/page-files.js';
import type { Clock } from '../../src/jobs/clock.js';
import { EmbeddedBackend } from '../../src/jobs/embedded.js';
import type { JobWorker } from '../../src/jobs/job-worker.js';
import { Workloads } from '../../src/jobs/workload.js';
import { createMetrics, type Metrics } from '../../src/metrics/metrics.js';
import { openModelFolder } from '../../src/model/served-model.js';
import { startLocalWorker } from '../../src/worker/local-worker.js';
import { valueOf } from './exposition.js';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.js';
import { writeAccelerator } from './accelerator-folder.js';
import { writeClassFolder, type ClassFolderOptions } from './class-folder.js';
import { writeModelFolder, type FolderOptions } from './model-folder.js';

/** Stands for web/dist: an entry and a file with a hash in its name. */
const TEST_PAGE: ReadonlyMap<string, PageFile> = new Map([
  ['/', { bytes: Buffer.from('<!doctype html><title>page</title>'), contentType: 'text/html; charset=utf-8', etag: '"page"', immutable: false }],
  ['/assets/index-abc123.js', { bytes: Buffer.from('export {};'), contentType: 'text/javascript; charset=utf-8', etag: '"script"', immutable: true }],
]);

/** The fake engine's. */
const TEST_DEVICE: Device = { id: 'reference', name: 'processor', memoryBytes: 2 ** 30, reason: 'asked for' };

export interface Gateway {
  app: FastifyInstance;
  engine: FakeEngine;
  serving: Serving;
  metrics: Metrics;
  backend: EmbeddedBackend;
  workload: Workloads;
  post(body: unknown): Promise<Reply>;
  /** Of /metrics, as `valueOf` selects it. */
  metric(selector: string): Promise<number | null>;
  close(): Promise<void>;
}

export interface GatewayOptions extends FakeEngineOptions {
  folder?: FolderOptions;
  /** A model of classes instead; it needs a `worker`, as the fake engine draws captions. */
  classes?: ClassFolderOptions;
  /** What its accelerator.json says otherwise; absent: the folder has no accelerator. */
  /** A model of classes beside the first one; needs a `worker` likewise. */
  second?: ClassFolderOptions;
  accelerator?: Readonly<Record<string, unknown>>;
  throughput?: boolean;
  kvSequences?: number;
  maxBatch?: number;
  queue?: number;
  patience?: Partial<Patience>;
  /** Instead of the scheduler with the fake engine. */
  worker?: JobWorker;
  /** Of the jobs' log and of grace times. */
  clock?: Clock;
}

/** Gateway, job backend, scheduler and fake engine, wired as main does it. */
export async function createGateway(options: GatewayOptions = {}): Promise<Gateway> {
  const folder = options.classes === undefined ? writeModelFolder(options.folder) : writeClassFolder(options.classes);
  if (options.accelerator !== undefined) writeAccelerator(folder.directory, options.accelerator);
  const second = options.second === undefined ? null : writeClassFolder(options.second);
  const models = [folder, ...(second === null ? [] : [second])].map(({ directory }) => openModelFolder(directory));
  const model = models[0]!;
  const ids = models.map(({ manifest }) => manifest.id);
  const metrics = createMetrics();
  const engine = new FakeEngine(options);
  const limits = { name: 'worker-0', kvSequences: options.kvSequences ?? 16, maxBatch: options.maxBatch ?? 16, throughput: options.throughput ?? false };
  const worker = options.worker ?? await startLocalWorker(wrapEngine(engine), model.manifest, limits, metrics.registry, { error: () => undefined });
  const workload = new Workloads(ids, limits.maxBatch);
  const backend = new EmbeddedBackend(worker, {
    capacity: options.queue ?? 64,
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    observe: (job, event, before) => {
      metrics.jobs.onEvent(job, event, before);
      workload.observe(job, event);
    },
  });
  metrics.jobs.watchBackend(ids, [{ name: limits.name, running: (id) => backend.queueOf(id).running }], backend);
  metrics.jobs.watchEta(ids, (id) => workload.of(id).waitSeconds ?? 0);
  const serving: Serving = { status: 'ready', models, backend, engine: { backend: 'reference', device: 'cpu', dtype: 'float32', isa: 'none', libraries: 'none' }, workers: [{ name: limits.name, status: 'ready', loaded: 1, device: TEST_DEVICE }] };
  const app = await buildApp({ serving, metrics, workload, patience: { ...DEFAULT_PATIENCE, ...options.patience }, drawSeed: () => 12345, allowedOrigins: ['https://friend.example'], page: TEST_PAGE }, 'silent');
  return {
    app,
    engine,
    serving,
    metrics,
    backend,
    workload,
    post: (body) =>
      app.inject({
        method: 'POST',
        url: '/v1/images/generations',
        headers: { 'content-type': 'application/json' },
        payload: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    metric: async (selector) => valueOf(await metrics.render(), selector),
    close: async () => {
      await backend.drain(0);
      await closeApp(app, 50);
      folder.remove();
      second?.remove();
    },
  };
}
