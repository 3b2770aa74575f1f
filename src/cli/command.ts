/** Where a command reads and writes; handed in, so that tests see what a person would. */
export interface Terminal {
  /** Results: what a script reads. */
  out(text: string): void;
  /** Progress and complaints. */
  err(text: string): void;
  /** Raw bytes instead of text (`-o -`). */
  outBytes(bytes: Uint8Array): void;
  /** A person watches `err`. */
  isTTY: boolean;
  columns: number;
  env: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
}

export interface Command {
  /** One line, for the list of commands. */
  summary: string;
  /** What `--help` prints. */
  help: string;
  /** Exit status. Throws `UsageError` for what was typed wrong and `CommandError` for what went wrong. */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

/** An expected failure: exit status 1, the message and no stack. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}
