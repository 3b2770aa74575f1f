import type { OnDisconnect } from './backend.js';
import type { Clock } from './clock.js';

/**
 * Who still wants a job. As long as somebody is attached it lives; once the last one has left, the most patient policy
 * that anybody ever attached with decides, so that nobody who joins a job or comes back for it can shorten its life:
 *
 *   cancel       abandoned at once
 *   { graceMs }  abandoned after that time, unless somebody attaches before
 *   detach       never abandoned
 */
export class Attachments {
  private attached = 0;
  /** How long the job is kept for nobody; Infinity: to its end. */
  private patienceMs = 0;
  private callOff: () => void = () => undefined;

  constructor(
    private readonly clock: Clock,
    /** Nobody is left to wait for it. Called at most once per leaving. */
    private readonly onAbandoned: () => void,
  ) {}

  /** Returns how to leave; leaving twice is leaving once. */
  attach(policy: OnDisconnect): () => void {
    this.attached += 1;
    this.patienceMs = Math.max(this.patienceMs, patienceOf(policy));
    this.callOff();
    let here = true;
    return () => {
      if (!here) return;
      here = false;
      this.attached -= 1;
      if (this.attached === 0) this.leave();
    };
  }

  /** The job is over: nothing is decided any more. */
  end(): void {
    this.attached = Infinity;
    this.callOff();
  }

  private leave(): void {
    if (this.patienceMs === 0) this.onAbandoned();
    else if (this.patienceMs !== Infinity) this.callOff = this.clock.after(this.patienceMs, this.onAbandoned);
  }
}

function patienceOf(policy: OnDisconnect): number {
  if (policy === 'cancel') return 0;
  return policy === 'detach' ? Infinity : policy.graceMs;
}
