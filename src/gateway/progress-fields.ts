import type { Progress } from '../jobs/progress.js';
import type { ProgressFields } from './schemas.js';

/** Progress as it is written on every wire. */
export function progressFields({ stage, step, total, fraction, etaMs, image }: Progress): ProgressFields {
  return { stage, step, total, fraction: Math.round(fraction * 1e4) / 1e4, eta_ms: etaMs, ...(image === null ? {} : { image }) };
}
