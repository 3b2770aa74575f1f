import { usage } from '../../config.js';
import type { Command } from '../command.js';

const HELP = usage('fast-ardiff serve');

export const serve: Command = {
  summary: "answer OpenAI's Images API over HTTP, with a page at /",
  help: HELP,
  run: async (args) => {
    // main.ts is the server's composition root and reads the command line itself, as under `npm start`.
    process.argv.splice(2, process.argv.length - 2, ...args);
    await import('../../main.js');
    return 0;
  },
};
