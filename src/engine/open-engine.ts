import { availableParallelism, cpus, totalmem } from 'node:os';
import { chooseDevice, type Device } from './device.js';
import type { DeviceChoice } from './device-choice.js';
import { wrapEngine, type Engine } from './engine.js';
import { loadNativeModule } from './native.js';
import type { ComputeDtype, NativeModule } from './native-types.js';
import { toEngineError } from '../errors.js';

export interface OpenOptions {
  device: DeviceChoice;
  dtype: ComputeDtype;
  /** 0: one per physical core; where several share the processor, a part of its hardware threads each. */
  threads: number;
  /** Workers that compute on this processor; absent: one. */
  sharedBy?: number;
}

export interface OpenedEngine {
  engine: Engine;
  device: Device;
  /** Toolkit that the addon's cuda backend was built with; empty: it has none. */
  cudaVersion: string;
}

/** Decides for a device and makes an engine on it. A device that cannot be used is an `EngineError`. */
export function openEngine({ device: asked, dtype, threads, sharedBy = 1 }: OpenOptions, native: NativeModule = loadNativeModule()): OpenedEngine {
  const found = native.cudaDevices();
  const device = chooseDevice(asked, found, { name: cpus()[0]?.model.trim() ?? 'unknown', memoryBytes: totalmem() });
  const share = threads === 0 && sharedBy > 1 ? Math.max(1, Math.floor(availableParallelism() / sharedBy)) : threads;
  try {
    return { engine: wrapEngine(new native.Engine({ backend: device.id, dtype, threads: share })), device, cudaVersion: found.version };
  } catch (thrown) {
    throw toEngineError(thrown);
  }
}
