import { Registry } from 'prom-client';
import type { Engine } from '../engine/engine.js';
import { ServerError } from '../errors.js';
import type { HostedModel } from '../jobs/ipc.js';
import type { JobRequest } from '../jobs/job.js';
import type { JobWorker } from '../jobs/job-worker.js';
import type { MetricsSnapshot } from '../metrics/merge.js';
import type { ModelManifest } from '../model/manifest.js';
import { startLocalWorker, type LocalWorker, type WorkerLog, type WorkerOptions } from './local-worker.js';
import { Turns } from './turns.js';

/** All models of a device: each with its own batch and KV pool, all on one engine thread, in turns. */
export interface HostedModels extends JobWorker {
  readonly models: readonly HostedModel[];
  /** How long the engine has been in its step; 0 while it rests. */
  readonly stepSeconds: number;
  /** Of all models; series of different models differ in a label. */
  metrics(): Promise<MetricsSnapshot>;
}

/** Loads one model after the other: they read the same disk, and the first that does not load ends it. */
export async function hostModels(engine: Engine, manifests: readonly ModelManifest[], options: Omit<WorkerOptions, 'turns'>, log: WorkerLog): Promise<HostedModels> {
  const turns = new Turns();
  const hosted = new Map<string, { worker: LocalWorker; registry: Registry }>();
  const models: HostedModel[] = [];
  for (const manifest of manifests) {
    const begin = performance.now();
    // Of its own: the same metrics exist once per model.
    const registry = new Registry();
    // Other workers' are served beside them.
    registry.setDefaultLabels({ worker: options.name });
    const worker = await startLocalWorker(engine, manifest, { ...options, turns }, registry, log);
    hosted.set(manifest.id, { worker, registry });
    models.push({ id: manifest.id, kv: worker.kv, memory: worker.memory, loadSeconds: (performance.now() - begin) / 1000 });
  }
  const find = ({ model }: JobRequest): LocalWorker => {
    const found = hosted.get(model);
    if (found === undefined) throw new ServerError('model_not_found', `The worker has no model '${model}'.`, { param: 'model' });
    return found.worker;
  };
  const all = [...hosted.values()];
  return {
    models,
    get stepSeconds() {
      return engine.stepSeconds;
    },
    metrics: async () => (await Promise.all(all.map(({ registry }) => registry.getMetricsAsJSON()))).flat(),
    start: (request, emit) => find(request).start(request, emit),
    capacityOf: (request) => find(request).capacityOf(request),
    stop: async () => {
      await Promise.all(all.map(({ worker }) => worker.stop()));
    },
  };
}
