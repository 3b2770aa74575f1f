import type { BackendName } from './native-types.js';

const PATTERN = /^(cpu|reference|cuda(:(0|[1-9]\d{0,3}))?)$/;

/** Of a flag. Whether this build and this machine have the backend is the addon's to say. */
export function parseBackendName(text: string): BackendName {
  if (!isBackendName(text)) throw new RangeError('expected one of cpu, reference, cuda, cuda:N');
  return text;
}

export function isBackendName(text: string): text is BackendName {
  return PATTERN.test(text);
}
