import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { ConfigError, readConfig, usage, type Config } from './config.js';
import { PACKAGE_ROOT } from './engine/native.js';
import { describeError } from './errors.js';
import { buildApp, closeApp } from './gateway/app.js';
import { DEFAULT_PATIENCE, type Serving } from './gateway/deps.js';
import { readPageFiles } from './gateway/page-files.js';
import { EmbeddedBackend } from './jobs/embedded.js';
import type { WorkerState, WorkerStatus } from './jobs/supervisor.js';
import { Workloads } from './jobs/workload.js';
import { createMetrics, type Metrics } from './metrics/metrics.js';
import { ACCELERATOR_FOLDER, CALIBRATION_FILE, isUncalibrated } from './model/accelerator.js';
import { openModelFolder, type ServedModel } from './model/served-model.js';
import { embedWorker, superviseWorkers, type StartedWorker, type WorkerContext } from './start-worker.js';
import { VERSION } from './version.js';

/** For the last answers to reach slow clients. */
const LINGER_MS = 3000;

/** Composition root: config → listen → load → serve → drain. The only file whose import has effects. */
async function main(config: Config): Promise<void> {
  const models = config.modelDirectories.map((directory) => openModelFolder(directory, { acceleration: config.acceleration }));
  const metrics = createMetrics();
  const workload = new Workloads(models.map(({ manifest }) => manifest.id), config.maxBatch * config.devices.length);
  const patience = { ...DEFAULT_PATIENCE, heartbeatMs: config.heartbeatMs, earlyHintsMs: config.keepalive1xx ? DEFAULT_PATIENCE.earlyHintsMs : 0 };
  const serving: Serving = { status: 'loading', models, backend: null, engine: null, workers: [] };
  const page = readPageFiles(join(PACKAGE_ROOT, 'web', 'dist'));
  const app = await buildApp({ serving, metrics, workload, patience, drawSeed, allowedOrigins: config.allowedOrigins, page }, config.logLevel);
  if (page.size === 0) app.log.warn('the playground is not built (npm run build:web): / answers 404');
  for (const { manifest } of models) {
    if (isUncalibrated(manifest.directory)) app.log.warn({ model: manifest.id }, uncalibratedNotice(manifest.directory));
  }
  // Before it can be seen from outside that the server is there: whoever sees it may stop it.
  const stop = onceOnSignal();
  // Listening comes before loading: probes and clients get an answer, 503 until the model is up.
  await app.listen({ host: config.host, port: config.port });
  const worker = await Promise.race([load(config, models, serving, { metrics, workload }, app), stop.then(() => null)]);
  // A device that cannot be used ends the server at its start, although another may serve already.
  await Promise.race([stop, worker?.complete.then(() => stop)]);
  app.log.info('draining');
  serving.status = 'draining';
  await serving.backend?.drain(config.drainTimeoutMs);
  await closeApp(app, LINGER_MS);
  worker?.close();
  // Still loading: nobody waits for that any more, and a worker process ends with this one.
  if (worker === null) process.exit(0);
}

function uncalibratedNotice(directory: string): string {
  return `${join(directory, ACCELERATOR_FOLDER)} has no ${CALIBRATION_FILE}, so nothing of it is used: pictures are drawn by the model's own sampler. Measure it with "npm run calibrate -- ${directory}".`;
}

/** Who sees every event of every job. */
interface Watchers {
  metrics: Metrics;
  workload: Workloads;
}

async function load(config: Config, models: readonly ServedModel[], serving: Serving, { metrics, workload }: Watchers, app: FastifyInstance): Promise<StartedWorker> {
  const begin = performance.now();
  const manifests = models.map(({ manifest }) => manifest);
  const ids = manifests.map(({ id }) => id);
  const loaded = new Map(ids.map((id) => [id, metrics.models.loading(id, config.dtype)]));
  const onState = (state: WorkerState, workers: readonly WorkerStatus[]): void => {
    serving.workers = workers;
    if (serving.backend !== null && serving.status !== 'draining') serving.status = state;
  };
  const context: WorkerContext = { manifests, metrics, log: app.log, onState };
  const started = config.inProcess ? await embedWorker(config, context) : superviseWorkers(config, context);
  if (serving.workers.length === 0) serving.workers = started.names.map((name) => ({ name, status: 'loading', loaded: 0, device: null }));
  const { engine: info, device, cudaVersion, models: ready } = await Promise.race([started.ready, started.complete.then(() => started.ready)]);
  const backend = new EmbeddedBackend(started.worker, {
    capacity: config.queue,
    observe: (job, event, before) => {
      metrics.jobs.onEvent(job, event, before);
      workload.observe(job, event);
    },
  });
  const seconds = (performance.now() - begin) / 1000;
  for (const { id, loadSeconds } of ready) loaded.get(id)?.(info.dtype, loadSeconds);
  metrics.setBuildInfo({ version: VERSION, backend: info.backend, dtype: info.dtype, isa: info.isa, cuda: cudaVersion === '' ? 'none' : cudaVersion });
  const workers = started.names.map((name) => ({ name, running: (id: string) => started.running?.(name, id) ?? backend.queueOf(id).running }));
  metrics.jobs.watchBackend(ids, workers, backend);
  metrics.jobs.watchEta(ids, (id) => workload.of(id).waitSeconds ?? 0);
  serving.backend = backend;
  const devices = config.devices.map((asked) => (asked === 'auto' ? device.id : asked)).map((id) => (id === 'reference' ? 'cpu' : id));
  serving.engine = { backend: info.backend, device: devices.join(), dtype: info.dtype, isa: info.isa, libraries: info.libraries };
  serving.status = 'ready';
  const memory = Object.fromEntries(ready.flatMap((model) => (model.memory === null ? [] : [[model.id, model.memory]])));
  app.log.info({ models: ids, ...info, device, memory, seconds: Number(seconds.toFixed(3)) }, 'ready');
  return started;
}

/** Resolves with the first SIGTERM or SIGINT; a second one ends the process as usual. */
function onceOnSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { resolve(); });
  });
}

/** 53 random bits, for requests that name no seed. */
function drawSeed(): number {
  const bits = randomBytes(8).readBigUInt64BE();
  return Number(bits >> 11n);
}

function fail(error: unknown): void {
  const expected = error instanceof ConfigError;
  process.stderr.write(`fast-ardiff: ${describeError(error)}\n`);
  if (expected) process.stderr.write(`${usage()}\n`);
  process.exit(expected ? 2 : 1);
}

if (process.argv.includes('--help')) {
  process.stdout.write(`${usage()}\n`);
} else {
  try {
    await main(readConfig(process.argv.slice(2), process.env));
  } catch (error) {
    fail(error);
  }
}
