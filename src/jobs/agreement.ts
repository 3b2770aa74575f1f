import { ServerError } from '../errors.js';
import type { WorkerReady } from './ipc.js';

interface NamedReady {
  name: string;
  ready: WorkerReady;
}

/**
 * Any worker may draw a job, and draw it again when another died, so all must draw the same bytes: those are fixed by dtype, instruction
 * set and threads. An error: this one does not compute as the others do. Pure.
 */
export function disagreement(name: string, { engine, device }: WorkerReady, others: readonly NamedReady[]): ServerError | null {
  const [first] = others;
  if (first === undefined) return null;
  const differing = (['dtype', 'isa', 'threads'] as const).find((key) => engine[key] !== first.ready.engine[key]);
  if (differing === undefined) return null;
  const message =
    `${name} (${device.id}, ${device.name}) has ${differing} ${engine[differing]}, ${first.name} (${first.ready.device.id}) has ${first.ready.engine[differing]}: ` +
    'pictures would depend on who draws them. Serve such devices by a server each.';
  return new ServerError('model_unavailable', message, { shouldRetry: false });
}
