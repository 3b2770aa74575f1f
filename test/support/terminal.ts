import type { Terminal } from '../../src/cli/command.js';
import { runCommandLine } from '../../src/cli/run.js';

export interface Session {
  status: number;
  out: string;
  err: string;
  bytes: Uint8Array[];
}

/** Runs one command line in this process, as a pipe or as a person at a terminal would see it. */
export async function runCli(argv: readonly string[], options: Partial<Pick<Terminal, 'isTTY' | 'columns' | 'env' | 'signal'>> = {}): Promise<Session> {
  const session: Session = { status: -1, out: '', err: '', bytes: [] };
  session.status = await runCommandLine(argv, {
    out: (text) => (session.out += text),
    err: (text) => (session.err += text),
    outBytes: (bytes) => session.bytes.push(bytes),
    isTTY: false,
    columns: 80,
    env: {},
    signal: new AbortController().signal,
    ...options,
  });
  return session;
}
