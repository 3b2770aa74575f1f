import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { convertTorchCheckpoint, type Converted } from '../../convert/convert.js';
import { InvalidCheckpoint } from '../../convert/invalid-checkpoint.js';
import { convertTransDiff } from '../../convert/transdiff-folder.js';
import { CommandError, type Command, type Terminal } from '../command.js';
import { describeFlags, integer, parseFlags, text, UsageError, type FlagValues } from '../flags.js';

const FLAGS = {
  to: text('model folder to write, of a TransDiff model (default: the folder itself)', { placeholder: 'DIR' }),
  vae: text('its VAE (default: vae/checkpoint-last.pth in the folder, or beside it)', { placeholder: 'FILE' }),
  'num-heads': integer('its attention heads, where its width is none of the published ones', [1, 1024]),
};

const HELP = `Usage: fast-ardiff convert FOLDER | FILE.pt [OUT.safetensors]
       fast-ardiff convert FOLDER [--vae FILE] [--to DIR] [--num-heads N]

Turns a PyTorch checkpoint into safetensors, once, without PyTorch. Nothing in the file is executed: only the few
pickle instructions that a state dict needs are interpreted. Averaged weights (model_ema) are taken where there are any.

  FOLDER    of a NextStep model: FOLDER/vae/checkpoint.pt becomes FOLDER/vae/model.safetensors
            of a TransDiff model: FOLDER/checkpoint-last.pth and its VAE become a model folder, config.json included
  FILE.pt   any torch.save archive of a state dict

${describeFlags(FLAGS)}`;

/** Name of every released TransDiff file. */
const RELEASED = 'checkpoint-last.pth';

export const convert: Command = {
  summary: 'turn a PyTorch checkpoint into safetensors',
  help: HELP,
  run: async (args, terminal) => {
    const { values, positionals } = parseFlags(FLAGS, args);
    const [input, output] = positionals;
    if (input === undefined || positionals.length > 2) throw new UsageError('a folder or a file is expected, and at most one output');
    if (!existsSync(input)) throw new UsageError(`${input}: no such file or folder`);
    const isFolder = statSync(input).isDirectory();
    if (isFolder && existsSync(join(input, RELEASED))) {
      if (output !== undefined) throw new UsageError('a model folder is named by --to');
      return await released(input, values, terminal);
    }
    const [flag] = Object.keys(values);
    if (flag !== undefined) throw new UsageError(`--${flag} is for a folder with ${RELEASED}`);
    const from = isFolder ? join(input, 'vae', 'checkpoint.pt') : input;
    const to = output ?? (isFolder ? join(input, 'vae', 'model.safetensors') : `${input.replace(/\.[^./]*$/, '')}.safetensors`);
    if (!existsSync(from)) throw new UsageError(`${from}: no such file; nothing to convert`);
    terminal.out(written(to, await refusals(() => convertTorchCheckpoint(from, to), `${from}: `)));
    return 0;
  },
};

/** As the repository of the released weights lies on disk: one folder per model, the VAE's among them. */
async function released(folder: string, values: FlagValues<typeof FLAGS>, terminal: Terminal): Promise<number> {
  const places = values.vae === undefined ? [join(folder, 'vae', RELEASED), join(folder, '..', 'vae', RELEASED)] : [values.vae];
  const vae = places.find((path) => existsSync(path));
  if (vae === undefined) throw new UsageError(`${places.join(' or ')}: no such file; name the VAE with --vae`);
  const to = values.to ?? folder;
  const heads = values['num-heads'];
  const converted = await refusals(() => convertTransDiff({ model: join(folder, RELEASED), vae, ...(heads === undefined ? {} : { heads }) }, to));
  const { architecture, image_size: side, num_classes: classes } = converted.config;
  terminal.out(written(join(to, 'model.safetensors'), converted.model));
  terminal.out(written(join(to, 'vae', 'model.safetensors'), converted.vae));
  if (converted.named) terminal.out(`${join(to, 'classes.json')}: the ${classes} of ImageNet\n`);
  terminal.out(`${join(to, 'config.json')}: ${architecture}, ${side}x${side}, ${classes} classes\n`);
  return 0;
}

function written(path: string, { tensors, bytes }: Converted): string {
  return `${path}: ${tensors} tensors, ${(bytes / 1e6).toFixed(1)} MB\n`;
}

/** What is wrong with a file is told to the person who named it. */
async function refusals<T>(convert: () => Promise<T>, prefix = ''): Promise<T> {
  try {
    return await convert();
  } catch (error) {
    if (error instanceof InvalidCheckpoint) throw new CommandError(`${prefix}${error.message}`);
    throw error;
  }
}
