import { cpus, totalmem } from 'node:os';
import { chooseDevice, type Device } from './device.js';
import type { DeviceChoice } from './device-choice.js';
import { wrapEngine, type Engine } from './engine.js';
import { loadNativeModule } from './native.js';
import type { ComputeDtype, NativeModule } from './native-types.js';
import { toEngineError } from '../errors.js';

export interface OpenOptions {
  device: DeviceChoice;
  dtype: ComputeDtype;
  /** 0: one per physical core; where several share the processor, a part of them each. */
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

/** The machine's, or what a container may have of it; Node says 0, or more than there is, where nothing limits it. */
function usableMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Infinity);
}

/** Decides for a device and makes an engine on it. A device that cannot be used is an `EngineError`. */
export function openEngine({ device: asked, dtype, threads, sharedBy = 1 }: OpenOptions, native: NativeModule = loadNativeModule()): OpenedEngine {
  const found = native.cudaDevices();
  const device = chooseDevice(asked, found, { name: cpus()[0]?.model.trim() ?? 'unknown', memoryBytes: usableMemory() });
  try {
    return { engine: wrapEngine(new native.Engine({ backend: device.id, dtype, threads, sharedBy })), device, cudaVersion: found.version };
  } catch (thrown) {
    throw toEngineError(thrown);
  }
}
