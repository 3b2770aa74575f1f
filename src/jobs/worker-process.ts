import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { FromWorker, ToWorker } from './ipc.js';
import type { WorkerExit } from './restart-policy.js';

/** A running worker, as the supervisor handles it. */
export interface WorkerProcess {
  readonly pid: number | undefined;
  /** What is sent after the end of the process is lost; its end is told. */
  send(message: ToWorker): void;
  /** Ends it whatever it does. */
  kill(): void;
}

export interface WorkerListener {
  onMessage(message: FromWorker): void;
  /** Once, after the last message. */
  onExit(exit: WorkerExit & { kind: 'exit' | 'oom' }): void;
}

export type SpawnWorker = (listener: WorkerListener) => WorkerProcess;

/**
 * Starts `entry` as a child. It ends with this process, however that ends, by the channel that closes. Its log goes
 * where ours goes.
 */
export function spawnWorker(entry: string, listener: WorkerListener): WorkerProcess {
  const oomKillsBefore = oomKills();
  const child = forkOrNull(entry);
  if (child === null) {
    setImmediate(() => {
      listener.onExit({ kind: 'exit', code: null, signal: null });
    });
    return { pid: undefined, send: () => undefined, kill: () => undefined };
  }
  let killed = false;
  child.on('message', (message) => {
    // The only writer of this channel is our own code of the same version.
    listener.onMessage(message as FromWorker);
  });
  // A process that cannot be started (no memory for it) has no exit; one that can tells by its exit.
  const gone = new Promise<WorkerExit & { kind: 'exit' | 'oom' }>((resolve) => {
    child.once('exit', (code, signal) => {
      const isOom = signal === 'SIGKILL' && !killed && oomKills() > oomKillsBefore;
      resolve(isOom ? { kind: 'oom' } : { kind: 'exit', code, signal });
    });
    child.once('error', () => {
      if (child.pid === undefined) resolve({ kind: 'exit', code: null, signal: null });
    });
  });
  // Messages sent before the death may still be in the pipe: a picture among them need not be drawn again.
  const drained = new Promise<void>((resolve) => {
    child.once('disconnect', resolve);
    child.once('error', () => {
      if (child.pid === undefined) resolve();
    });
  });
  void Promise.all([gone, drained]).then(([exit]) => {
    listener.onExit(exit);
  });
  return {
    pid: child.pid,
    send: (message) => {
      if (child.connected) child.send(message, () => undefined);
    },
    kill: () => {
      killed = true;
      child.kill('SIGKILL');
    },
  };
}

/** Null: there is no memory for it, which Node throws where other failures to start are events. */
function forkOrNull(entry: string): ChildProcess | null {
  try {
    return fork(entry, { serialization: 'advanced' });
  } catch {
    return null;
  }
}

/** Processes the kernel has killed for memory since boot; 0 where it does not say. */
function oomKills(): number {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
