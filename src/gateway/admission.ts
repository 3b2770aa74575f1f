import { ServerError, type ErrorDetails } from '../errors.js';
import type { QueueState } from '../jobs/backend.js';
import type { RejectReason } from '../metrics/jobs.js';

/** Clients obey longer times and hang, or ignore them and hammer. */
const MAX_RETRY_SECONDS = 60;

export type ServingStatus = 'loading' | 'ready' | 'draining' | 'failed';

export interface AdmissionInput {
  status: ServingStatus;
  queue: QueueState;
  /** KV blocks the largest picture of the request needs at its end, and those there are. */
  neededBlocks: number;
  totalBlocks: number;
  /** Seconds until the request would start, by what is measured; null: not known yet. */
  waitSeconds: number | null;
  /** Seconds its client waits for the answer; null: it does not say. */
  timeoutSeconds: number | null;
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
export function admit({ status, queue, neededBlocks, totalBlocks, waitSeconds, timeoutSeconds }: AdmissionInput): Rejection | null {
  const byStatus = rejectByStatus(status);
  if (byStatus !== null) return byStatus;
  if (neededBlocks > totalBlocks) {
    const message = `One picture of this request needs ${neededBlocks} KV blocks, the server has ${totalBlocks}. Shorten the prompt or choose a smaller size.`;
    return { reason: 'too_large', error: new ServerError('request_too_large', message) };
  }
  if (queue.waiting >= queue.capacity) {
    const message = `All ${queue.capacity} places in the queue are taken.${waitSeconds === null ? '' : ` The wait is about ${shown(waitSeconds)}.`}`;
    return { reason: 'queue_full', error: new ServerError('queue_full', message, comeBack(untilOnePlace(queue, waitSeconds), waitSeconds)) };
  }
  if (waitSeconds !== null && timeoutSeconds !== null && waitSeconds > timeoutSeconds) {
    const message = `The wait is about ${shown(waitSeconds)}, longer than this client's timeout of ${shown(timeoutSeconds)}.`;
    return { reason: 'deadline', error: new ServerError('deadline_exceeded', message, comeBack(waitSeconds - timeoutSeconds, waitSeconds)) };
  }
  return null;
}

/** Waits that a client cannot bridge by its own retries end the matter; it knows the time from the message. */
function comeBack(seconds: number, waitSeconds: number | null): ErrorDetails {
  if (waitSeconds !== null && waitSeconds > MAX_RETRY_SECONDS) return { shouldRetry: false };
  return { retryAfterSeconds: Math.min(MAX_RETRY_SECONDS, Math.max(1, Math.ceil(seconds))) };
}

/** By the measured wait where there is one; else longer queues just want more patience. */
function untilOnePlace({ waiting, running }: QueueState, waitSeconds: number | null): number {
  return waitSeconds === null ? waiting / Math.max(1, running) : waitSeconds / Math.max(1, waiting);
}

function shown(seconds: number): string {
  return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`;
}
