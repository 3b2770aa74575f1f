import { writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { onlyDevice, onlyModel, readConfig } from '../../config.js';
import { LIMITS, type ImagesRequest } from '../../gateway/schemas.js';
import type { OutputFormat } from '../../jobs/job.js';
import type { Command, Terminal } from '../command.js';
import { localDraw } from '../drawing/local.js';
import { remoteDraw } from '../drawing/remote.js';
import type { Draw } from '../drawing/drawing.js';
import { choice, decimal, describeFlags, integer, onOff, parseFlags, text, url, UsageError, type FlagValues } from '../flags.js';
import { ProgressBar } from '../progress-bar.js';

const FORMATS = ['png', 'jpeg', 'webp'] as const;

const FLAGS = {
  out: text('file to write; several pictures get -0, -1, … before the ending; - is standard output (default picture.<format>)', { short: 'o', placeholder: 'FILE' }),
  seed: integer('of the first picture; the next ones count up (default: drawn, and printed)', [0]),
  n: integer(`how many pictures, at most ${LIMITS.images} (default 1)`, [1, LIMITS.images], { short: 'n' }),
  size: text('what the model draws (default: its native size)', { placeholder: 'WIDTHxHEIGHT' }),
  guidance: decimal('how closely the words are followed; 1: off', [1, LIMITS.guidanceScale]),
  steps: integer('timesteps per image token: more is slower and cleaner', [1, LIMITS.timesteps]),
  negative: text('what the picture should not be; needs --guidance above 1'),
  acceleration: choice('how tokens are drafted (default: as the model was calibrated)', ['auto', 'off', 'exact', 'relaxed'] as const),
  'few-step': choice('jumps of the few-step head per token; 0: the model\'s own sampler', ['0', '1', '2', '4'] as const),
  drafts: integer('tokens drafted at once, at most', [0, 64]),
  format: choice('default: by the ending of --out, else png', FORMATS),
  compression: integer('quality of jpeg and webp (default 100)', [0, 100]),
  model: text('here: model folder (default: the bundled nextstep-emoji64); with --url: name of a served model', { placeholder: 'MODEL' }),
  url: url('draw on this server instead of in this process'),
  device: text('here: auto, cpu or cuda:N (default auto: a GPU that this build can use, else cpu)', { placeholder: 'NAME' }),
  backend: text('here: reference for plain loops on the cpu', { placeholder: 'NAME' }),
  dtype: text('here: auto, float32 or bfloat16 (default auto)', { placeholder: 'NAME' }),
  threads: text('here: compute threads; 0: one per physical core (default 0)', { placeholder: 'N' }),
  quiet: onOff('no progress', { short: 'q' }),
};

type Values = FlagValues<typeof FLAGS>;

const HELP = `Usage: fast-ardiff generate "PROMPT" [flags]

Draws one picture or several, in this process or on a server, and prints file, size and seed of each. The same
prompt, seed and settings give the same bytes, here and there.

  fast-ardiff generate "red apple" -o apple.png --seed 7
  fast-ardiff generate "a cat, 3d style" -n 4 --format webp -o cat.webp        cat-0.webp … cat-3.webp
  fast-ardiff generate "a rose" --acceleration relaxed --few-step 1
  fast-ardiff generate "blue car" --url http://localhost:8080 -o - > car.png

${describeFlags(FLAGS)}

A key in OPENAI_API_KEY is sent along with --url.`;

export const generate: Command = {
  summary: 'draw pictures from a prompt',
  help: HELP,
  run: (args, terminal) => {
    const { values, positionals } = parseFlags(FLAGS, args);
    return drawToFiles(readRequest(values, positionals), values, chooseDraw(values, terminal), terminal);
  },
};

/** The request as a client would send it, and where its pictures go. */
interface Task {
  request: ImagesRequest;
  format: OutputFormat;
  /** File of picture i, or null for standard output. */
  fileOf: (index: number) => string | null;
}

export function readRequest(values: Values, positionals: readonly string[]): Task {
  const [prompt] = positionals;
  if (prompt === undefined) throw new UsageError('a prompt is missing');
  if (positionals.length > 1) throw new UsageError(`one prompt is expected, received ${positionals.length}; put it in quotes`);
  const format = values.format ?? formatOf(values.out) ?? 'png';
  const n = values.n ?? 1;
  if (values.out === '-' && n > 1) throw new UsageError('--out: standard output takes one picture, not several');
  const request: ImagesRequest = {
    prompt,
    n,
    output_format: format,
    ...(values.url === undefined || values.model === undefined ? {} : { model: values.model }),
    ...(values.seed === undefined ? {} : { seed: values.seed }),
    ...(values.size === undefined ? {} : { size: values.size }),
    ...(values.guidance === undefined ? {} : { guidance_scale: values.guidance }),
    ...(values.steps === undefined ? {} : { num_inference_steps: values.steps }),
    ...(values.negative === undefined ? {} : { negative_prompt: values.negative }),
    ...(values.compression === undefined ? {} : { output_compression: values.compression }),
    ...accelerationOf(values),
  };
  return { request, format, fileOf: (index) => fileName(values.out, format, n, index) };
}

function accelerationOf({ acceleration: mode, 'few-step': fewStep, drafts }: Values): Pick<ImagesRequest, 'acceleration'> {
  if (mode === undefined && fewStep === undefined && drafts === undefined) return {};
  return {
    acceleration: {
      ...(mode === undefined ? {} : { mode }),
      ...(fewStep === undefined ? {} : { few_step: Number(fewStep) as 0 | 1 | 2 | 4 }),
      ...(drafts === undefined ? {} : { max_draft_tokens: drafts }),
    },
  };
}

function chooseDraw(values: Values, terminal: Terminal): Draw {
  if (values.url !== undefined) {
    for (const name of ['device', 'backend', 'dtype', 'threads'] as const) {
      if (values[name] !== undefined) throw new UsageError(`--${name}: only without --url; the server has its own`);
    }
    return remoteDraw(values.url, terminal.env.OPENAI_API_KEY);
  }
  // The server's own flags and variables mean the same here.
  const flags = (['model', 'device', 'backend', 'dtype', 'threads'] as const).flatMap((name) => (values[name] === undefined ? [] : [`--${name}`, values[name]]));
  const config = readConfig(flags, terminal.env);
  return localDraw({ ...config, device: onlyDevice(config), modelDirectory: onlyModel(config) });
}

async function drawToFiles({ request, fileOf }: Task, { quiet }: Values, draw: Draw, terminal: Terminal): Promise<number> {
  const begin = performance.now();
  const bar = new ProgressBar(terminal, 'drawing');
  const lines: string[] = [];
  try {
    for await (const event of draw(request, terminal.signal)) {
      if (event.kind === 'progress') {
        if (quiet !== true) bar.show(event.fraction, event.etaMs);
        continue;
      }
      const file = fileOf(event.index);
      if (file === null) terminal.outBytes(event.bytes);
      else await writeFile(file, event.bytes);
      lines.push(`${file ?? 'standard output'}: ${event.bytes.length} bytes, seed ${event.seed}, ${((performance.now() - begin) / 1000).toFixed(2)} s\n`);
    }
  } finally {
    bar.clear();
  }
  // Standard output belongs to the picture when it goes there.
  for (const line of lines) (fileOf(0) === null ? terminal.err : terminal.out)(line);
  return terminal.signal.aborted ? 130 : 0;
}

function formatOf(out: string | undefined): OutputFormat | undefined {
  const ending = extname(out ?? '').slice(1).toLowerCase();
  if (ending === 'jpg') return 'jpeg';
  return FORMATS.find((format) => format === ending);
}

function fileName(out: string | undefined, format: OutputFormat, n: number, index: number): string | null {
  if (out === '-') return null;
  const name = out ?? `picture.${format}`;
  const ending = extname(name);
  return n === 1 ? name : `${name.slice(0, name.length - ending.length)}-${index}${ending}`;
}
