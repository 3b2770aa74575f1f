import { ServerError } from '../errors.js';
import type { JobHandle, SubmitOptions } from '../jobs/backend.js';
import type { JobRequest } from '../jobs/job.js';
import type { JobMetrics } from '../metrics/jobs.js';
import { admit, rejectByStatus, type Rejection } from './admission.js';
import type { GatewayDeps } from './deps.js';

export interface Submission {
  request: JobRequest;
  options: SubmitOptions;
  /** Seconds the client waits for the answer; null: it does not say. */
  timeoutSeconds: number | null;
}

type Deps = Pick<GatewayDeps, 'serving' | 'metrics' | 'workload'>;

/** Before any work is done for a request: is anything served at all? */
export function refuseUnlessServing({ serving, metrics }: Deps): void {
  refuse(rejectByStatus(serving.status), metrics.jobs);
}

/**
 * The one way in for jobs, whatever they came by. Who comes back for a job that is there already joins it, also when
 * the queue is full: it costs nothing.
 */
export function submitJob({ serving, metrics, workload }: Deps, { request, options, timeoutSeconds }: Submission): { job: JobHandle; joined: boolean } {
  const { backend, status } = serving;
  if (backend === null) throw new ServerError('model_loading', 'The model is loading.', { retryAfterSeconds: 1 });
  if (!backend.wouldJoin(options)) {
    const { waitSeconds } = workload.of(request.model);
    refuse(admit({ status, queue: backend.queueOf(request.model), ...backend.capacityOf(request), waitSeconds, timeoutSeconds }), metrics.jobs);
  }
  return backend.submit(request, options);
}

function refuse(rejection: Rejection | null, metrics: JobMetrics): void {
  if (rejection === null) return;
  metrics.rejected(rejection.reason);
  throw rejection.error;
}
