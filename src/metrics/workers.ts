import { Counter, Gauge, type Registry } from 'prom-client';

/** `oom`: killed by the system for memory. `hang`: it stopped answering and was killed. `exit`: any other end. */
export type RestartReason = 'oom' | 'hang' | 'exit';

/** Worker processes as their supervisor sees them. */
export interface WorkerMetrics {
  up(worker: string, isUp: boolean): void;
  restarted(reason: RestartReason): void;
  /** A job was given to a worker again, because the one before died with it. */
  redelivered(): void;
}

export function createWorkerMetrics(registry: Registry): WorkerMetrics {
  const registers = [registry];
  const up = new Gauge({ name: 'ardiff_worker_up', help: '1 while the worker can draw.', labelNames: ['worker'], registers });
  const restarts = new Counter({
    name: 'ardiff_worker_restarts_total',
    help: 'Workers started again after one ended by itself.',
    labelNames: ['reason'],
    registers,
  });
  const redeliveries = new Counter({
    name: 'ardiff_job_redeliveries_total',
    help: 'Jobs started again from their first token, because their worker died.',
    registers,
  });
  // Present from the start: a counter that appears with its first event hides that event from rate().
  for (const reason of ['oom', 'hang', 'exit'] as const) restarts.inc({ reason }, 0);
  return {
    up: (worker, isUp) => {
      up.set({ worker }, isUp ? 1 : 0);
    },
    restarted: (reason) => {
      restarts.inc({ reason });
    },
    redelivered: () => {
      redeliveries.inc();
    },
  };
}
