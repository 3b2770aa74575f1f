import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client';

export interface BuildInfo {
  version: string;
  /** Backend, dtype and instruction set once the engine is up. */
  backend: string;
  dtype: string;
  isa: string;
}

/** The process itself (CPU, memory, event-loop lag) and which build it is. */
export function createProcessMetrics(registry: Registry): { setBuildInfo(info: BuildInfo): void } {
  collectDefaultMetrics({ register: registry });
  const buildInfo = new Gauge({
    name: 'ardiff_build_info',
    help: 'Always 1; the labels say what is running.',
    labelNames: ['version', 'backend', 'dtype', 'isa'],
    registers: [registry],
  });
  return {
    setBuildInfo: (info) => {
      buildInfo.reset();
      buildInfo.set({ ...info }, 1);
    },
  };
}
