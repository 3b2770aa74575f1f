import type { Registry } from 'prom-client';
import type { Engine, EngineModel } from '../engine/engine.js';
import { EngineError } from '../errors.js';
import type { KvMemory } from '../jobs/ipc.js';
import type { JobWorker } from '../jobs/job-worker.js';
import { createSchedulerMetrics } from '../metrics/scheduler.js';
import type { ModelManifest } from '../model/manifest.js';
import { capacityOf, KV_BLOCK_TOKENS, kvBlocksFor, maxStepTokensFor } from './capacity.js';
import { Runner } from './runner.js';
import { createSchedulerState } from './scheduler/state.js';
import { StepLoop, type StepObserver } from './scheduler/step-loop.js';

export interface WorkerOptions {
  /** Names this worker to those who watch its jobs. */
  name: string;
  kvSequences: number;
  maxBatch: number;
}

/** Where the worker's own troubles are written; pino fits. */
export interface WorkerLog {
  error(details: object, message: string): void;
}

/** A worker in this process. */
export interface LocalWorker extends JobWorker {
  readonly kv: KvMemory;
  /** How long the engine has been in its step; 0 while it rests. */
  readonly stepSeconds: number;
}

/** Pictures decoded per step: enough to keep up with a full batch, few enough not to stall it. */
const MAX_VAE_PER_STEP = 4;

/** Loads the model into the engine and starts drawing: the whole worker, in this process. */
export async function startLocalWorker(
  engine: Engine,
  manifest: ModelManifest,
  options: WorkerOptions,
  registry: Registry,
  log: WorkerLog,
): Promise<LocalWorker> {
  const kvBlocks = kvBlocksFor(manifest, options.kvSequences);
  const maxStepTokens = maxStepTokensFor(options.maxBatch);
  const model = await engine.load(manifest.directory, { kvBlocks, maxStepTokens });
  checkAgreement(manifest, model);
  const state = createSchedulerState({
    numBlocks: model.info.kvBlocks,
    blockTokens: model.info.blockTokens,
    maxStepTokens,
    maxRunning: options.maxBatch,
    maxVaePerStep: MAX_VAE_PER_STEP,
  });
  const metrics = createSchedulerMetrics(registry, manifest.id, options.name, state);
  const observer: StepObserver = {
    onStep: (plan, result) => {
      metrics.step(plan, result);
    },
    onStepFailed: (_plan, error) => {
      metrics.stepFailed();
      log.error({ err: error, code: error.nativeCode, detail: error.detail }, 'engine step failed');
    },
  };
  const loop = new StepLoop(state, model, observer);
  const runner = new Runner(loop, metrics, options.name, manifest);
  loop.start();
  const kv: KvMemory = { blockTokens: model.info.blockTokens, totalBlocks: model.info.kvBlocks };
  return {
    kv,
    get stepSeconds() {
      return loop.stepSeconds;
    },
    start: (request, emit) => runner.start(request, emit),
    capacityOf: (request) => capacityOf(kv, request),
    stop: async () => {
      await loop.stop();
      await model.unload();
    },
  };
}

/** Both sides read the same folder; where they differ, requests would be checked against another model. */
function checkAgreement(manifest: ModelManifest, { info }: EngineModel): void {
  const pairs = {
    latentChannels: [manifest.latentChannels, info.latentChannels],
    latentPatchSize: [manifest.latentPatchSize, info.latentPatchSize],
    pixelFactor: [manifest.pixelFactor, info.pixelFactor],
    boiTokenId: [manifest.boiTokenId, info.boiTokenId],
    imagePlaceholderId: [manifest.imagePlaceholderId, info.imagePlaceholderId],
    vocabSize: [manifest.vocabSize, info.vocabSize],
    blockTokens: [KV_BLOCK_TOKENS, info.blockTokens],
  };
  for (const [name, [here, there]] of Object.entries(pairs)) {
    if (here !== there) {
      throw new EngineError('invalid_model', `${manifest.directory}: ${name} is ${here} by its JSON files and ${there} by the engine`);
    }
  }
}
