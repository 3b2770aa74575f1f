import { toServerError, ServerError } from '../../errors.js';
import type { JobHandle, OnDisconnect } from '../../jobs/backend.js';
import type { GatewayDeps } from '../deps.js';
import { fingerprintOf } from '../fingerprint.js';
import { prepareRequest } from '../image-request.js';
import { findModel } from '../models-route.js';
import { outcomeOf } from '../request-metrics.js';
import { refuseUnlessServing, submitJob } from '../submit-job.js';
import type { ClientFrameOf } from './frames.js';

const API = 'stream';

/** Whoever loses a connection for a moment should not lose a picture. */
export const DEFAULT_GRACE_MS = 30_000;

/**
 * A generate frame → job, by the same checks and the same way in as a POST. Throws a `ServerError`. `scope`: of the
 * caller's credentials; `rows`: strips of finished rows are wanted, where the model can give them.
 */
export function generate(deps: GatewayDeps, frame: ClientFrameOf<'generate'>, scope: string, rows: boolean): { job: JobHandle; joined: boolean } {
  const begin = performance.now();
  let model = 'unknown';
  const count = (thrown: unknown): void => {
    deps.metrics.jobs.request(model, API, outcomeOf(thrown === null ? null : toServerError(thrown).code), (performance.now() - begin) / 1000, true);
  };
  try {
    const { request: body, idempotency_key: key } = frame;
    refuseContradictions(body);
    const served = findModel(deps.serving.models, body.model);
    model = served.manifest.id;
    refuseUnlessServing(deps);
    const prepared = prepareRequest(body, served, deps.drawSeed);
    const request = { ...prepared, rowPreviews: rows && served.manifest.latentRgb !== null };
    const options = { fingerprint: fingerprintOf(scope, body), ...(key === undefined ? {} : { idempotencyKey: `${scope}:${key}` }) };
    const submitted = submitJob(deps, { request, options, timeoutSeconds: null });
    submitted.job.result.then(() => { count(null); }, count);
    return submitted;
  } catch (thrown) {
    count(thrown);
    throw thrown;
  }
}

/** What a body says about its own stream is the socket's business here. */
function refuseContradictions(body: ClientFrameOf<'generate'>['request']): void {
  for (const param of ['stream', 'stream_options'] as const) {
    if (body[param] === undefined || body[param] === false) continue;
    throw new ServerError('unsupported_value', `${param} has no meaning on a socket, which streams anyway; leave it out.`, { param });
  }
}

export function policyOf(onDisconnect: ClientFrameOf<'generate'>['on_disconnect']): OnDisconnect {
  if (onDisconnect === undefined) return { graceMs: DEFAULT_GRACE_MS };
  return typeof onDisconnect === 'string' ? onDisconnect : { graceMs: onDisconnect.grace_ms };
}
