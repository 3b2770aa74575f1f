import { join } from 'node:path';
import type { Registry } from 'prom-client';
import type { Engine, EngineModel } from '../engine/engine.js';
import type { MemoryPrice } from '../engine/native-types.js';
import { EngineError } from '../errors.js';
import type { KvMemory } from '../jobs/ipc.js';
import type { JobWorker } from '../jobs/job-worker.js';
import { createSchedulerMetrics } from '../metrics/scheduler.js';
import { ACCELERATOR_FOLDER, mostRowsPerRound, readCalibration, type Calibration } from '../model/accelerator.js';
import type { ModelManifest } from '../model/manifest.js';
import type { NextStepManifest } from '../model/nextstep-manifest.js';
import type { TransDiffManifest } from '../model/transdiff-manifest.js';
import { capacityOf, CROWDED_FROM, KV_BLOCK_TOKENS, kvBlocksFor, MAX_TRANSFORMER_ROWS, maxStepTokensFor, maxStepTokensOfPasses, rehearsalOf } from './capacity.js';
import { Runner } from './runner.js';
import { createSchedulerState } from './scheduler/state.js';
import { StepLoop, type StepObserver } from './scheduler/step-loop.js';
import type { Turns } from './turns.js';

export interface WorkerOptions {
  /** Names this worker to those who watch its jobs. */
  name: string;
  kvSequences: number;
  maxBatch: number;
  /** A crowded batch draws by few steps and without drafts where the request leaves that open; absent: no. */
  throughput?: boolean;
  /** Where other models share the engine. */
  turns?: Turns;
}

/** Where the worker's own troubles are written; pino fits. */
export interface WorkerLog {
  error(details: object, message: string): void;
}

/** A worker in this process. */
export interface LocalWorker extends JobWorker {
  readonly kv: KvMemory;
  /** Null where the engine computes in the host's memory. */
  readonly memory: MemoryPrice | null;
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
  const { model, maxStepTokens } = await loadServed(engine, manifest, options);
  const state = createSchedulerState({
    numBlocks: model.info.kvBlocks,
    blockTokens: model.info.blockTokens,
    maxStepTokens,
    maxRunning: options.maxBatch,
    ...(options.throughput === true ? { crowdedFrom: CROWDED_FROM } : {}),
    maxVaePerStep: MAX_VAE_PER_STEP,
    ...(model.info.classes === undefined ? {} : { classes: model.info.classes }),
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
  const loop = new StepLoop(state, model, observer, options.turns);
  const runner = new Runner(loop, metrics, options.name, manifest);
  loop.start();
  const kv: KvMemory = { blockTokens: model.info.blockTokens, totalBlocks: model.info.kvBlocks };
  return {
    kv,
    memory: model.info.memory ?? null,
    start: (request, emit) => runner.start(request, emit),
    capacityOf: (request) => capacityOf(kv, request),
    stop: async () => {
      await loop.stop();
      await model.unload();
    },
  };
}

/** What a model is loaded for. */
export type LoadOptions = Pick<WorkerOptions, 'kvSequences' | 'maxBatch'>;

export interface Loaded {
  model: EngineModel;
  maxStepTokens: number;
}

/** A model of either family with room for the pictures asked for, and how many rows a step of it may have. */
export function loadServed(engine: Engine, manifest: ModelManifest, options: LoadOptions): Promise<Loaded> {
  return manifest.family === 'nextstep' ? loadText(engine, manifest, options) : loadClasses(engine, manifest, options);
}

async function loadText(engine: Engine, manifest: NextStepManifest, options: LoadOptions): Promise<Loaded> {
  const kvBlocks = kvBlocksFor(manifest, options.kvSequences);
  const { calibration, accelerator } = acceleratorOf(manifest);
  const maxStepTokens = maxStepTokensFor(options.maxBatch, calibration === null ? 0 : mostRowsPerRound(calibration));
  const model = await engine.load(manifest.directory, { kvBlocks, maxStepTokens, rehearsal: rehearsalOf(manifest, options.maxBatch), ...accelerator });
  const { info } = model;
  checkAgreement(manifest, {
    latentChannels: [manifest.latentChannels, info.latentChannels],
    latentPatchSize: [manifest.latentPatchSize, info.latentPatchSize],
    pixelFactor: [manifest.pixelFactor, info.pixelFactor],
    boiTokenId: [manifest.boiTokenId, info.boiTokenId],
    imagePlaceholderId: [manifest.imagePlaceholderId, info.imagePlaceholderId],
    vocabSize: [manifest.vocabSize, info.vocabSize],
    blockTokens: [KV_BLOCK_TOKENS, info.blockTokens],
  });
  if (calibration !== null) checkAccelerator(manifest, calibration, model);
  return { model, maxStepTokens };
}

async function loadClasses(engine: Engine, manifest: TransDiffManifest, options: LoadOptions): Promise<Loaded> {
  // How much a picture takes is in the weights, so both are known once they are loaded.
  const { calibration, accelerator } = acceleratorOf(manifest);
  const model = await engine.load(manifest.directory, { kvBlocks: 1, kvPictures: options.kvSequences, maxStepTokens: MAX_TRANSFORMER_ROWS, rehearsal: rehearsalOf(manifest, options.maxBatch), ...accelerator });
  const { classes, ...info } = model.info;
  checkAgreement(manifest, {
    latentChannels: [manifest.latentChannels, info.latentChannels],
    pixelFactor: [manifest.pixelFactor, info.pixelFactor],
    passes: [manifest.passes, classes?.numPasses],
    classes: [manifest.classes.classes.length, classes?.numClasses],
  });
  if (calibration !== null && !info.accelerator.fewStep) {
    throw new EngineError('invalid_model', `${join(manifest.directory, ACCELERATOR_FOLDER)}: the calibration names a few-step decoder, the engine found none`);
  }
  return { model, maxStepTokens: Math.min(MAX_TRANSFORMER_ROWS, maxStepTokensOfPasses(classes!, options.maxBatch)) };
}

/** What was measured of a model's accelerator, and where the engine finds it. */
function acceleratorOf({ directory, sampling }: ModelManifest): { calibration: Calibration | null; accelerator: { accelerator?: string } } {
  const calibration = readCalibration(directory, sampling);
  return { calibration, accelerator: calibration === null ? {} : { accelerator: join(directory, ACCELERATOR_FOLDER) } };
}

/** The calibration names what the weights must be able to do. */
function checkAccelerator(manifest: ModelManifest, { modes, few_step: head }: Calibration, { info }: EngineModel): void {
  const { draftLayers, draftHead, fewStep } = info.accelerator;
  const refuse = (problem: string): never => {
    throw new EngineError('invalid_model', `${join(manifest.directory, ACCELERATOR_FOLDER)}: ${problem}`);
  };
  if (head !== null && !fewStep) refuse('the calibration names a few-step head, the engine found none');
  for (const [key, mode] of Object.entries(modes)) {
    const gate = mode.speculation?.gate;
    if (gate === undefined) continue;
    if (draftLayers === 0) refuse(`mode "${key}" drafts, the engine found no draft model`);
    if (!key.includes('few_step') && !draftHead) refuse(`mode "${key}" drafts for the model's own sampler, and the draft model has no head`);
    if (gate.kind !== 'off' && gate.layer >= draftLayers) refuse(`the gate of mode "${key}" reads layer ${gate.layer} of ${draftLayers}`);
  }
}

/** Both sides read the same folder; where they differ, requests would be checked against another model. */
function checkAgreement(manifest: ModelManifest, pairs: Record<string, [here: number, there: number | undefined]>): void {
  for (const [name, [here, there]] of Object.entries(pairs)) {
    if (here !== there) {
      throw new EngineError('invalid_model', `${manifest.directory}: ${name} is ${here} by its JSON files and ${String(there)} by the engine`);
    }
  }
}
