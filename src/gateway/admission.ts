import { ServerError } from '../errors.js';
import type { QueueState } from '../jobs/backend.js';
import type { RejectReason } from '../metrics/jobs.js';

export type ServingStatus = 'loading' | 'ready' | 'draining' | 'failed';

export interface AdmissionInput {
  status: ServingStatus;
  queue: QueueState;
  /** KV blocks the largest picture of the request needs at its end, and those there are. */
  neededBlocks: number;
  totalBlocks: number;
}

export interface Rejection {
  reason: RejectReason;
  error: ServerError;
}

/** Not serving, whatever the request: asked before any work is done for it. */
export function rejectByStatus(status: ServingStatus): Rejection | null {
  switch (status) {
    case 'ready':
      return null;
    case 'loading':
      return { reason: 'loading', error: new ServerError('model_loading', 'The model is loading.', { retryAfterSeconds: 1 }) };
    case 'draining':
      return { reason: 'draining', error: new ServerError('draining', 'The server is shutting down.', { retryAfterSeconds: 5 }) };
    case 'failed':
      return { reason: 'loading', error: new ServerError('model_unavailable', 'The model could not be loaded.', { shouldRetry: false }) };
  }
}

/** Admit (null) or the reason why not. Pure: the same state and request always get the same answer. */
export function admit({ status, queue, neededBlocks, totalBlocks }: AdmissionInput): Rejection | null {
  const byStatus = rejectByStatus(status);
  if (byStatus !== null) return byStatus;
  if (neededBlocks > totalBlocks) {
    const message = `One picture of this request needs ${neededBlocks} KV blocks, the server has ${totalBlocks}. Shorten the prompt or choose a smaller size.`;
    return { reason: 'too_large', error: new ServerError('request_too_large', message) };
  }
  if (queue.waiting >= queue.capacity) {
    const message = `All ${queue.capacity} places in the queue are taken.`;
    return { reason: 'queue_full', error: new ServerError('queue_full', message, { retryAfterSeconds: retryAfter(queue) }) };
  }
  return null;
}

/** Longer queues want more patience; the client's own backoff adds to it. */
function retryAfter(queue: QueueState): number {
  return Math.min(60, Math.max(1, Math.ceil(queue.waiting / Math.max(1, queue.running))));
}
