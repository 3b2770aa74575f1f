import type { DeviceChoice } from './device-choice.js';
import type { BackendName, CudaDevices } from './native-types.js';

/** What a worker computes on. */
export interface Device {
  /** `cpu`, `reference` or `cuda:N`: what the engine is made for. */
  id: BackendName;
  /** What the hardware calls itself. */
  name: string;
  /** All of its memory, whoever uses it; of a processor, the machine's. */
  memoryBytes: number;
  /** Why it was chosen: for those who expected another. */
  reason: string;
}

/** The processor, as the operating system describes it. */
export interface Processor {
  name: string;
  memoryBytes: number;
}

/**
 * `auto`: the first CUDA device that this build can use, else the processor, with what was in the way. Whatever is named is
 * taken by its name: whether it can be used is the engine's to say, and there is no way around its answer.
 */
export function chooseDevice(asked: DeviceChoice, { problem, devices }: CudaDevices, processor: Processor): Device {
  if (asked !== 'auto') return describe(asked, devices, processor, 'asked for');
  const first = devices.findIndex((device) => device.problem === '');
  if (first >= 0) return describe(`cuda:${first}`, devices, processor, 'auto: the first CUDA device that can be used');
  const problems = problem === '' ? devices.map((device, i) => `cuda:${i} (${device.name}): ${device.problem}`) : [problem];
  return describe('cpu', devices, processor, `auto: ${problems.join('; ')}`);
}

function describe(id: BackendName, devices: CudaDevices['devices'], processor: Processor, reason: string): Device {
  if (!id.startsWith('cuda')) return { id, name: processor.name, memoryBytes: processor.memoryBytes, reason };
  const found = devices[Number(id.split(':')[1] ?? 0)];
  return { id, name: found?.name ?? 'unknown', memoryBytes: found?.memoryBytes ?? 0, reason };
}
