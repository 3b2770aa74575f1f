import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { wrapEngine, type Engine } from '../src/engine/engine.js';
import { ADDON_PATH, loadNativeModule, PACKAGE_ROOT } from '../src/engine/native.js';
import type { BackendName, ComputeDtype, EngineInfo } from '../src/engine/native-types.js';

export interface BenchOptions {
  modelDirectory: string;
  backend: BackendName;
  threads: number;
  rounds: number;
}

/** What every part gets. */
export interface Bench {
  options: BenchOptions;
  /** Of the engine in `auto` dtype: what the server runs. */
  info: EngineInfo;
  openEngine(dtype: ComputeDtype): Engine;
  /** Folder for generated weights, noise, helper programs; ignored by git. */
  scratch: string;
  log(message: string): void;
}

export function openBench(options: BenchOptions): Bench {
  const native = loadNativeModule(process.env['ARDIFF_ADDON'] ?? ADDON_PATH);
  const openEngine = (dtype: ComputeDtype): Engine =>
    wrapEngine(new native.Engine({ backend: options.backend, dtype, threads: options.threads }));
  const probe = openEngine('auto');
  const { info } = probe;
  probe.close();
  const scratch = join(PACKAGE_ROOT, 'build', 'bench');
  mkdirSync(scratch, { recursive: true });
  const log = (message: string): void => {
    console.error(`bench: ${message}`);
  };
  return { options, info, openEngine, scratch, log };
}
