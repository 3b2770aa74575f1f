import type { JobEvent } from './job.js';

/** One event with its place in the job's history. */
export interface LogEntry {
  /** 1, 2, 3, … within the job; a gap means that entries were trimmed. */
  seq: number;
  /** Milliseconds since 1970. */
  ts: number;
  event: JobEvent;
}

export interface Replay {
  /** What is left of the entries after the asked seq, in order. */
  entries: readonly LogEntry[];
  /** Some of them are gone: [from, to] were trimmed, inclusive; null: nothing is missing. */
  gap: { from: number; to: number } | null;
}

/** What sockets see of a job's log. They read at their own pace; nothing that writes ever waits for them. */
export interface JobLogReader {
  /** Tells this log from one of the same job after a restart of the server; clients resume by (epoch, seq). */
  readonly epoch: string;
  /** seq of the newest entry; 0 when there is none. */
  readonly lastSeq: number;
  /** True once a final event (succeeded, failed, cancelled) is in it: nothing follows. */
  readonly closed: boolean;
  since(after: number): Replay;
  /** Called synchronously for each entry from now on; returns how to stop. Must not throw or block. */
  subscribe(listener: (entry: LogEntry) => void): () => void;
}
