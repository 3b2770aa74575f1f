#!/usr/bin/env node
import type { Terminal } from './command.js';
import { runCommandLine } from './run.js';

/** The executable: a command line, this process's streams, an exit status. */
const interrupt = new AbortController();

const terminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  outBytes: (bytes) => void process.stdout.write(bytes),
  isTTY: process.stderr.isTTY,
  columns: process.stderr.columns,
  env: process.env,
  signal: interrupt.signal,
};

const argv = process.argv.slice(2);
// The server has its own way to stop: it drains.
if (argv[0] !== 'serve') process.once('SIGINT', () => { interrupt.abort(); });
process.exitCode = await runCommandLine(argv, terminal);
