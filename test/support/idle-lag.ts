import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

/** As prom-client samples; its gauges, and `p99Seconds` here, are this period and the delay. */
export const LAG_PERIOD_SECONDS = 0.01;

/**
 * The event-loop lag of a process that has nothing to do: what the machine does to everybody. A server's lag says
 * something about the server only while this is small.
 */
export class IdleLag {
  private constructor(private readonly child: ChildProcess) {}

  static async start(): Promise<IdleLag> {
    const child = fork(fileURLToPath(import.meta.url), ['idle-lag'], { execArgv: ['--import', 'tsx'] });
    await once(child, 'message');
    return new IdleLag(child);
  }

  /** Since it was last asked. */
  async p99Seconds(): Promise<number> {
    this.child.send('p99');
    const [seconds] = (await once(this.child, 'message')) as [number];
    return seconds;
  }

  async stop(): Promise<void> {
    this.child.disconnect();
    if (this.child.exitCode === null) await once(this.child, 'exit');
  }
}

/** In the child. */
function measure(): void {
  const delay = monitorEventLoopDelay({ resolution: LAG_PERIOD_SECONDS * 1000 });
  delay.enable();
  process.on('message', () => {
    process.send?.(delay.percentile(99) / 1e9);
    delay.reset();
  });
  process.once('disconnect', () => {
    process.exit();
  });
  process.send?.('ready');
}

if (process.argv[2] === 'idle-lag') measure();
