import type { JobHandle } from '../jobs/backend.js';
import type { LogEntry } from '../jobs/event-log.js';
import { advance, startProgress, type Progress, type ProgressState } from '../jobs/progress.js';

/** What a reader of a job is told next: something that happened, or how far it is. */
export type News = { kind: 'event'; entry: LogEntry } | { kind: 'progress'; seq: number; ts: number; progress: Progress };

/**
 * Reads a job's log at the pace of one reader and remembers nothing but its place, so a slow reader costs no memory: what
 * it missed is merged when it comes back. Token events become one progress, the latest; of previews the log itself keeps
 * the newest; everything else is told in order.
 */
export class LogCursor {
  private state: ProgressState;
  private pending: News | null = null;

  constructor(
    private readonly job: Pick<JobHandle, 'log' | 'request'>,
    /** seq of the last entry that the reader has. */
    private seq = 0,
  ) {
    this.state = startProgress(job.request);
    // Where it left off: what came before is known, whatever of it is still there.
    if (seq > 0) {
      for (const entry of job.log.since(0).entries) if (entry.seq <= seq) this.state = advance(this.state, entry).state;
    }
  }

  /** Null: all that happened is told. */
  next(): News | null {
    const { log } = this.job;
    const entries = this.seq < log.lastSeq ? log.since(this.seq).entries : [];
    for (const entry of entries) {
      const isProgress = entry.event.kind === 'tokens';
      if (!isProgress && this.pending !== null) break;
      this.seq = entry.seq;
      const { state, progress } = advance(this.state, entry);
      this.state = state;
      if (progress !== null) this.pending = { kind: 'progress', seq: entry.seq, ts: entry.ts, progress };
      if (!isProgress) return { kind: 'event', entry };
    }
    const news = this.pending;
    this.pending = null;
    return news;
  }
}
