import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { convertTorchCheckpoint } from '../../convert/convert.js';
import { InvalidCheckpoint } from '../../convert/invalid-checkpoint.js';
import { CommandError, type Command } from '../command.js';
import { parseFlags, UsageError } from '../flags.js';

const HELP = `Usage: fast-ardiff convert FOLDER | FILE.pt [OUT.safetensors]

Turns a PyTorch checkpoint into safetensors, once, without PyTorch. Nothing in the file is executed: only the few
pickle instructions that a state dict needs are interpreted.

  FOLDER    a model folder: FOLDER/vae/checkpoint.pt becomes FOLDER/vae/model.safetensors
  FILE.pt   any torch.save archive of a state dict`;

export const convert: Command = {
  summary: 'turn a PyTorch checkpoint into safetensors',
  help: HELP,
  run: async (args, terminal) => {
    const { positionals } = parseFlags({}, args);
    const [input, output] = positionals;
    if (input === undefined || positionals.length > 2) throw new UsageError('a folder or a file is expected, and at most one output');
    if (!existsSync(input)) throw new UsageError(`${input}: no such file or folder`);
    const isFolder = statSync(input).isDirectory();
    const from = isFolder ? join(input, 'vae', 'checkpoint.pt') : input;
    const to = output ?? (isFolder ? join(input, 'vae', 'model.safetensors') : `${input.replace(/\.[^./]*$/, '')}.safetensors`);
    if (!existsSync(from)) throw new UsageError(`${from}: no such file; nothing to convert`);
    try {
      const { tensors, bytes } = await convertTorchCheckpoint(from, to);
      terminal.out(`${to}: ${tensors} tensors, ${(bytes / 1e6).toFixed(1)} MB\n`);
      return 0;
    } catch (error) {
      if (error instanceof InvalidCheckpoint) throw new CommandError(`${from}: ${error.message}`);
      throw error;
    }
  },
};
