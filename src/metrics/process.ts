import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client';
import { COMMIT } from '../version.js';

export interface BuildInfo {
  version: string;
  /** Backend, dtype and instruction set once the engine is up. */
  backend: string;
  dtype: string;
  isa: string;
  /** Toolkit that the cuda backend was built with; `none` without it. */
  cuda: string;
}

/** The process itself (CPU, memory, event-loop lag) and which build it is. */
export function createProcessMetrics(registry: Registry): { setBuildInfo(info: BuildInfo): void } {
  collectDefaultMetrics({ register: registry });
  const gauge = <T extends string>(name: string, help: string, labelNames: readonly T[]): Gauge<T> =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const always1 = 'Always 1; the labels say';
  const build = gauge('ardiff_build_info', `${always1} what is running. cuda: none in a build without it.`, ['version', 'commit', 'cuda', 'arch']);
  const engine = gauge('ardiff_engine_info', `${always1} what it computes with.`, ['backend', 'dtype', 'isa']);
  return {
    setBuildInfo: ({ version, backend, dtype, isa, cuda }) => {
      build.reset();
      build.set({ version, commit: COMMIT, cuda, arch: process.arch }, 1);
      engine.reset();
      engine.set({ backend, dtype, isa }, 1);
    },
  };
}

/** Process metrics of a worker, told from the gateway's by a label. */
export function collectWorkerProcess(registry: Registry, worker: string): void {
  collectDefaultMetrics({ register: registry, labels: { worker } });
}
