import { pino } from 'pino';
import { Registry } from 'prom-client';
import { openEngine } from '../engine/open-engine.js';
import { toServerError } from '../errors.js';
import { systemClock } from '../jobs/clock.js';
import type { FromWorker, ToWorker, WireEvent, WorkerSetup } from '../jobs/ipc.js';
import type { JobEvent } from '../jobs/job.js';
import type { RunningJob } from '../jobs/job-worker.js';
import { toWireError } from '../jobs/wire-error.js';
import { collectWorkerProcess } from '../metrics/process.js';
import { readManifest } from '../model/manifest.js';
import { weightFileBytes } from '../model/weight-files.js';
import { EventOutbox } from './event-outbox.js';
import { hostModels, type HostedModels } from './hosted-models.js';

// Entry of the worker process: the device's engine, its scheduler and the encoding of its pictures. It is spoken to
// over the channel that it was forked with (jobs/ipc.ts), and lives as long as that.

const ALIVE_MS = 1000;

const registry = new Registry();
const outbox = new EventOutbox((events) => {
  send({ kind: 'events', events });
}, systemClock);
const running = new Map<number, RunningJob>();
/** Of the weights, while they are loaded. */
let loadedShare = (): number => 0;
let loaded: { worker: HostedModels; close: () => void } | null = null;

/** What cannot be sent has no reader: the gateway is gone, and `disconnect` comes next. */
function send(message: FromWorker, sent: () => void = () => undefined): void {
  if (process.connected) process.send?.(message, undefined, undefined, sent);
}

async function onMessage(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case 'load':
      await load(message.setup);
      break;
    case 'job':
      outbox.watch(message.id, message.watched);
      start(message);
      break;
    case 'watch':
      outbox.watch(message.id, message.watched);
      break;
    case 'cancel':
      running.get(message.id)?.cancel(message.reason);
      running.delete(message.id);
      outbox.forget(message.id);
      break;
    case 'metrics':
      send({ kind: 'metrics', id: message.id, metrics: [...(await registry.getMetricsAsJSON()), ...((await loaded?.worker.metrics()) ?? [])] });
      break;
    case 'stop':
      await loaded?.worker.stop();
      loaded?.close();
      process.exit(0);
  }
}

async function load(setup: WorkerSetup): Promise<void> {
  const log = pino({ level: setup.logLevel, base: { pid: process.pid, worker: setup.name } });
  try {
    const manifests = setup.modelDirectories.map(readManifest);
    const { engine, device, cudaVersion } = openEngine(setup);
    const total = setup.modelDirectories.reduce((sum, directory) => sum + weightFileBytes(directory), 0);
    loadedShare = () => Math.min(1, engine.loadedBytes / Math.max(1, total));
    const worker = await hostModels(engine, manifests, setup, log);
    collectWorkerProcess(registry, setup.name);
    loaded = { worker, close: () => { engine.close(); } };
    send({ kind: 'ready', engine: engine.info, device, cudaVersion, models: worker.models });
  } catch (thrown) {
    send({ kind: 'refused', error: toWireError(toServerError(thrown)) }, () => process.exit(1));
  }
}

/** A job that cannot be started fails; the others go on. */
function start({ id, request }: ToWorker & { kind: 'job' }): void {
  const emit = (event: JobEvent): void => {
    const wire = toWire(event);
    if (wire.kind === 'succeeded' || wire.kind === 'failed') running.delete(id);
    outbox.push(id, wire);
  };
  try {
    if (loaded === null) throw new Error('a job came before the model was loaded');
    running.set(id, loaded.worker.start(request, emit));
  } catch (thrown) {
    emit({ kind: 'failed', error: toServerError(thrown) });
  }
}

function toWire(event: JobEvent): WireEvent {
  switch (event.kind) {
    case 'failed':
      return { kind: 'failed', error: toWireError(event.error) };
    case 'succeeded': {
      const { timings } = event.result;
      return { kind: 'succeeded', result: { timings } };
    }
    default:
      return event;
  }
}

if (process.send === undefined) {
  process.stderr.write('fast-ardiff: the worker is started by the server, not by hand\n');
  process.exit(2);
}
process.title = 'fast-ardiff-worker';
// The gateway decides when to end: signals to the whole group (Ctrl-C, a service manager) are its business.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
// The gateway is gone. Nothing here outlives it, so nothing is put in order: waiting for a step could take long.
const die = (): void => {
  process.kill(process.pid, 'SIGKILL');
};
process.on('disconnect', die);
// It may have gone while this file was being loaded.
if (!process.connected) die();
process.on('message', (message) => {
  void onMessage(message as ToWorker);
});
setInterval(() => {
  send({ kind: 'alive', stepSeconds: loaded?.worker.stepSeconds ?? 0, loaded: loaded === null ? loadedShare() : 1 });
}, ALIVE_MS);
