import type { Clock } from './clock.js';

export interface RetentionLimits {
  /** How long a finished job can still be asked for. */
  keepMs: number;
  /** Finished jobs at once; the oldest goes first. */
  maxJobs: number;
  /** Bytes of all their pictures and previews; the oldest goes first. The newest always stays. */
  maxBytes: number;
}

/** Ten minutes, as long as memory allows: a busy server keeps the last 256 MiB of jobs. */
export const DEFAULT_RETENTION: RetentionLimits = { keepMs: 10 * 60 * 1000, maxJobs: 4096, maxBytes: 256 * 2 ** 20 };

interface Kept {
  id: string;
  bytes: number;
  until: number;
}

/** Decides when finished jobs are forgotten. One timer, for the oldest. */
export class Retention {
  /** Oldest first: all are kept equally long. */
  private readonly kept = new Map<string, Kept>();
  private bytes = 0;
  private armed = false;

  constructor(
    private readonly clock: Clock,
    private readonly limits: RetentionLimits,
    private readonly forget: (id: string) => void,
  ) {}

  add(id: string, bytes: number): void {
    this.kept.set(id, { id, bytes, until: this.clock.now() + this.limits.keepMs });
    this.bytes += bytes;
    this.trim();
  }

  has(id: string): boolean {
    return this.kept.has(id);
  }

  private trim(): void {
    const now = this.clock.now();
    for (const oldest of this.kept.values()) {
      const crowded = this.kept.size > this.limits.maxJobs || (this.bytes > this.limits.maxBytes && this.kept.size > 1);
      if (oldest.until > now && !crowded) break;
      this.kept.delete(oldest.id);
      this.bytes -= oldest.bytes;
      this.forget(oldest.id);
    }
    this.arm(now);
  }

  private arm(now: number): void {
    const [oldest] = this.kept.values();
    if (oldest === undefined || this.armed) return;
    this.armed = true;
    this.clock.after(oldest.until - now, () => {
      this.armed = false;
      this.trim();
    });
  }
}
