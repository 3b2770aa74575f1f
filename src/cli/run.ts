import { ConfigError } from '../config.js';
import { describeError, ServerError } from '../errors.js';
import { InvalidModelFile } from '../model/json-file.js';
import { VERSION } from '../version.js';
import { CommandError, type Command, type Terminal } from './command.js';
import { bench } from './commands/bench.js';
import { calibrate } from './commands/calibrate.js';
import { convert } from './commands/convert.js';
import { generate } from './commands/generate.js';
import { models } from './commands/models.js';
import { serve } from './commands/serve.js';
import { UsageError } from './flags.js';

const COMMANDS: Readonly<Record<string, Command>> = { serve, generate, models, convert, calibrate, bench };

const HELP = `fast-ardiff ${VERSION}: draws pictures with autoregressive-diffusion models

Usage: fast-ardiff COMMAND [flags]

${Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`).join('\n')}

  fast-ardiff generate "red apple" -o apple.png     with the bundled model, in this process
  fast-ardiff serve --port 8080                     OpenAI's Images API on http://localhost:8080
  fast-ardiff generate "red apple" --url http://localhost:8080

fast-ardiff COMMAND --help says more. Exit status: 0 done, 1 it went wrong, 2 the command line is wrong, 130 interrupted.`;

/** Runs one command line to its exit status. */
export async function runCommandLine(argv: readonly string[], terminal: Terminal): Promise<number> {
  const [name, ...args] = argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    terminal.out(`${HELP}\n`);
    return name === undefined ? 2 : 0;
  }
  if (name === '--version' || name === '-v') {
    terminal.out(`${VERSION}\n`);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    terminal.err(`fast-ardiff: unknown command ${JSON.stringify(name)}; there are ${Object.keys(COMMANDS).join(', ')}\n`);
    return 2;
  }
  if (args.includes('--help') || args.includes('-h')) {
    terminal.out(`${command.help}\n`);
    return 0;
  }
  try {
    return await command.run(args, terminal);
  } catch (error) {
    return explain(name, error, terminal);
  }
}

function explain(name: string, error: unknown, terminal: Terminal): number {
  if (terminal.signal.aborted) return 130;
  if (error instanceof UsageError || error instanceof ConfigError) {
    terminal.err(`fast-ardiff ${name}: ${error.message}\nfast-ardiff ${name} --help lists the flags.\n`);
    return 2;
  }
  const expected = error instanceof CommandError || error instanceof ServerError || error instanceof InvalidModelFile;
  terminal.err(`fast-ardiff ${name}: ${expected ? describeError(error) : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return 1;
}
