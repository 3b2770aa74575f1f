import type { OnDisconnect } from './backend.js';
import type { Clock } from './clock.js';

/**
 * Who still wants a job. As long as somebody is attached it lives; the last one to leave decides by its policy:
 *
 *   cancel       abandoned at once
 *   { graceMs }  abandoned after that time, unless somebody attaches before
 *   detach       never abandoned
 */
export class Attachments {
  private attached = 0;
  private callOff: () => void = () => undefined;

  constructor(
    private readonly clock: Clock,
    /** Nobody is left to wait for it. Called at most once per leaving. */
    private readonly onAbandoned: () => void,
  ) {}

  /** Returns how to leave; leaving twice is leaving once. */
  attach(policy: OnDisconnect): () => void {
    this.attached += 1;
    this.callOff();
    let here = true;
    return () => {
      if (!here) return;
      here = false;
      this.attached -= 1;
      if (this.attached === 0) this.leave(policy);
    };
  }

  /** The job is over: nothing is decided any more. */
  end(): void {
    this.attached = Infinity;
    this.callOff();
  }

  private leave(policy: OnDisconnect): void {
    if (policy === 'detach') return;
    if (policy === 'cancel') this.onAbandoned();
    else this.callOff = this.clock.after(policy.graceMs, this.onAbandoned);
  }
}
