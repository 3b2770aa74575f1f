import { Counter, Gauge, type Registry } from 'prom-client';

export type ResumeResult = 'ok' | 'gap' | 'unknown';

/** What is read of the sockets at scrape. */
export interface StreamState {
  connections: number;
  /** Made for slow readers and not taken yet. */
  bufferedBytes: number;
}

export interface StreamMetrics {
  resumed(result: ResumeResult): void;
  watch(read: () => StreamState): void;
}

/** WebSockets. */
export function createStreamMetrics(registry: Registry): StreamMetrics {
  const registers = [registry];
  const resumes = new Counter({
    name: 'ardiff_ws_resumes_total',
    help: 'Clients that came back for a job; gap: part of its history was trimmed; unknown: the job is forgotten.',
    labelNames: ['result'],
    registers,
  });
  for (const result of ['ok', 'gap', 'unknown'] as const) resumes.inc({ result }, 0);
  return {
    resumed: (result) => {
      resumes.inc({ result });
    },
    watch: (read) => {
      new Gauge({
        name: 'ardiff_ws_connections',
        help: 'Open sockets.',
        registers,
        collect() {
          this.set(read().connections);
        },
      });
      new Gauge({
        name: 'ardiff_ws_buffered_bytes',
        help: 'Sent to sockets and not taken by their readers yet.',
        registers,
        collect() {
          this.set(read().bufferedBytes);
        },
      });
    },
  };
}
