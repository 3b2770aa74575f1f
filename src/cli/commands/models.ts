import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../../engine/native.js';
import type { ModelDescription } from '../../gateway/schemas.js';
import { openModelFolder } from '../../model/served-model.js';
import { formatSize } from '../../model/sizes.js';
import { describeModel } from '../../gateway/models-route.js';
import { CommandError, type Command, type Terminal } from '../command.js';
import { send } from '../drawing/remote.js';
import { describeFlags, onOff, parseFlags, url, UsageError } from '../flags.js';

const FLAGS = {
  url: url('list what this server offers'),
  json: onOff("print it as /v1/models does"),
};

const HELP = `Usage: fast-ardiff models [FOLDER] [--url URL] [--json]

Lists the models of a server, or inspects a model folder (default: the bundled ones): its files are read and checked as
the server would, weights excepted.

  fast-ardiff models
  fast-ardiff models ~/models/NextStep-1.1
  fast-ardiff models --url http://localhost:8080

${describeFlags(FLAGS)}`;

export const models: Command = {
  summary: 'list the models of a server, or inspect a folder',
  help: HELP,
  run: async (args, terminal) => {
    const { values, positionals } = parseFlags(FLAGS, args);
    if (positionals.length > 1) throw new UsageError(`one folder is expected, received ${positionals.length}`);
    if (values.url !== undefined && positionals.length > 0) throw new UsageError('--url: a folder or a server, not both');
    const list = values.url === undefined ? inspect(positionals[0]) : await fetchModels(values.url, terminal);
    terminal.out(values.json === true ? `${JSON.stringify({ object: 'list', data: list.map(({ model }) => model) }, null, 2)}\n` : list.map(print).join('\n'));
    return 0;
  },
};

interface Entry {
  model: ModelDescription;
  /** What only the folder tells. */
  details: Record<string, string>;
}

async function fetchModels(server: string, terminal: Terminal): Promise<Entry[]> {
  const reply = await send(server, terminal.env.OPENAI_API_KEY, null, terminal.signal, '/v1/models');
  const { data } = (await reply.json()) as { data: ModelDescription[] };
  return data.map((model) => ({ model, details: {} }));
}

function inspect(folder: string | undefined): Entry[] {
  if (folder !== undefined) return [inspectFolder(folder)];
  const bundled = join(PACKAGE_ROOT, 'models');
  return readdirSync(bundled).filter((name) => existsSync(join(bundled, name, 'config.json'))).map((name) => inspectFolder(join(bundled, name)));
}

function inspectFolder(folder: string): Entry {
  if (!existsSync(folder)) throw new CommandError(`${folder}: no such folder`);
  const served = openModelFolder(folder);
  const { manifest } = served;
  const weights = weightFiles(folder);
  const vae = existsSync(join(folder, 'vae', 'model.safetensors')) ? 'vae/model.safetensors' : 'missing (a released checkpoint.pt must be converted: fast-ardiff convert)';
  const native = manifest.sizes[0];
  return {
    model: describeModel(served),
    details: {
      folder: manifest.directory,
      family: manifest.family,
      weights: weights.length === 0 ? 'missing' : `${weights.length} file${weights.length > 1 ? 's' : ''}, ${megabytes(weights)} MB`,
      vae,
      'image tokens': `${(native.width / manifest.pixelFactor) * (native.height / manifest.pixelFactor)} of ${manifest.pixelFactor} pixels at ${formatSize(native)}`,
    },
  };
}

function weightFiles(folder: string): string[] {
  return readdirSync(folder).filter((name) => /\.safetensors$/.test(name) && name !== 'fixtures.safetensors').map((name) => join(folder, name));
}

function megabytes(files: readonly string[]): string {
  return (files.reduce((sum, file) => sum + statSync(file).size, 0) / 1e6).toFixed(1);
}

/** One line a mode, the fastest first. */
function accelerationsOf({ accelerations }: ModelDescription): string {
  if (accelerations.length === 0) return 'none';
  const lines = accelerations.map(({ mode, few_step: fewStep, speedup, passed, max_draft_tokens: drafts }) => {
    const way = [...(mode === 'off' ? [] : [`${mode}, up to ${drafts} drafts`]), ...(fewStep === 0 ? [] : [`few_step ${fewStep}`])].join(', ');
    return `${speedup.toFixed(2)}x ${way}${passed ? '' : ' (worse than vanilla, only by name)'}`;
  });
  return lines.join(`\n${' '.repeat(16)}`);
}

function print({ model, details }: Entry): string {
  const { defaults } = model;
  const lines = {
    prompt: model.prompt_mode === 'class' ? `one of ${model.num_classes} classes` : `text, at most ${model.max_prompt_tokens} tokens`,
    sizes: model.sizes.join(', '),
    defaults: `${defaults.num_inference_steps} timesteps, guidance ${defaults.guidance_scale}, sampler ${defaults.sampler}`,
    accelerations: accelerationsOf(model),
    ...details,
  };
  return `${model.id}\n${Object.entries(lines).map(([name, value]) => `  ${name.padEnd(13)} ${value}\n`).join('')}`;
}
