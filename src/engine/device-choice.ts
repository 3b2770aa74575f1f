import { isBackendName, parseBackendName } from './backend-name.js';
import type { BackendName } from './native-types.js';

/** What one worker is asked to compute on; `auto` is decided by the worker, which sees what there is. */
export type DeviceChoice = 'auto' | BackendName;

/** One worker each. */
export type DeviceChoices = readonly [DeviceChoice, ...DeviceChoice[]];

/** `--device`: auto, cpu, cuda:N, or several of one kind with commas between them. Whether they exist is the worker's to find out. */
export function parseDevices(text: string): DeviceChoices {
  const [first, ...others] = text.split(',').map((part) => parseDevice(part.trim()));
  const all: DeviceChoices = [first!, ...others];
  if (others.length === 0) return all;
  if (all.includes('auto')) throw new RangeError('auto chooses one device and stands alone');
  if (new Set(all.map(kindOf)).size > 1) throw new RangeError('devices of one kind are expected: others draw other bytes');
  const twice = all.find((device, i) => isCuda(device) && all.indexOf(device) !== i);
  if (twice !== undefined) throw new RangeError(`${twice} is named twice`);
  return all;
}

/** `--backend`, which is older than `--device`: null where it is not set. */
export function parseBackend(text: string): BackendName | null {
  return text === '' ? null : withNumber(parseBackendName(text));
}

/**
 * What both flags come to. A backend names the device where that is left to us, and `reference` how a processor computes;
 * beyond that it may only agree.
 */
export function combine(devices: DeviceChoices, backend: BackendName | null): DeviceChoices {
  if (backend === null) return devices;
  if (devices[0] === 'auto') return [backend];
  const agrees = backend === 'reference' ? devices[0] === 'cpu' : devices.every((device) => device === backend);
  if (!agrees) throw new RangeError(`--device ${devices.join()} and --backend ${backend} contradict each other; --device alone is enough`);
  if (backend !== 'reference') return devices;
  const [, ...others] = devices;
  return ['reference', ...others.map(() => backend)];
}

function parseDevice(text: string): DeviceChoice {
  if (!isDevice(text)) throw new RangeError('expected auto, cpu, cuda:N, or several with commas between them');
  return text === 'auto' ? text : withNumber(text);
}

function isDevice(text: string): text is DeviceChoice {
  return text === 'auto' || (isBackendName(text) && text !== 'reference');
}

function withNumber(name: BackendName): BackendName {
  return name === 'cuda' ? 'cuda:0' : name;
}

function isCuda(device: DeviceChoice): boolean {
  return device.startsWith('cuda');
}

function kindOf(device: DeviceChoice): string {
  return device.split(':')[0]!;
}
