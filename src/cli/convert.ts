/**
 * `npm run convert -- DIR`: makes a released NextStep folder loadable, once. Its VAE comes as a pickle
 * (vae/checkpoint.pt); this writes vae/model.safetensors beside it without executing the pickle.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { convertTorchCheckpoint } from '../convert/convert.js';
import { InvalidCheckpoint } from '../convert/invalid-checkpoint.js';

const USAGE = `usage: npm run convert -- DIR | FILE.pt [OUT.safetensors]

  DIR       a model folder; converts DIR/vae/checkpoint.pt to DIR/vae/model.safetensors
  FILE.pt   any torch.save archive of a state dict`;

async function main(args: readonly string[]): Promise<number> {
  const [input, output] = args;
  if (input === undefined || input === '--help' || args.length > 2) {
    console.error(USAGE);
    return 2;
  }
  if (!existsSync(input)) {
    console.error(`${input}: no such file or folder`);
    return 2;
  }
  const isFolder = statSync(input).isDirectory();
  const from = isFolder ? join(input, 'vae', 'checkpoint.pt') : input;
  const to = output ?? (isFolder ? join(input, 'vae', 'model.safetensors') : input.replace(/\.[^./]*$/, '') + '.safetensors');
  if (!existsSync(from)) {
    console.error(`${from}: no such file; nothing to convert`);
    return 2;
  }
  try {
    const { tensors, bytes } = await convertTorchCheckpoint(from, to);
    console.log(`${to}: ${tensors} tensors, ${(bytes / 1e6).toFixed(1)} MB`);
    return 0;
  } catch (error) {
    if (!(error instanceof InvalidCheckpoint)) throw error;
    console.error(`${from}: ${error.message}`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
