import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { PACKAGE_ROOT } from './engine/native.js';
import { MODE_KEYS, type DefaultAcceleration } from './model/accelerator.js';
import { combine, parseBackend, parseDevices, type DeviceChoice, type DeviceChoices } from './engine/device-choice.js';
import type { ComputeDtype } from './engine/native-types.js';
import type { LogLevel } from './gateway/deps.js';

export interface Config {
  host: string;
  port: number;
  /** Different models; the first is drawn by requests that name none. */
  modelDirectories: readonly [string, ...string[]];
  /** One worker each. */
  devices: DeviceChoices;
  dtype: ComputeDtype;
  /** 0: one per physical core. */
  threads: number;
  /** Pictures whose KV cache fits at once. */
  kvSequences: number;
  /** Pictures in the batch at once. */
  maxBatch: number;
  /** Jobs that may wait. */
  queue: number;
  drainTimeoutMs: number;
  /** Silence on a stream of events before a comment is sent. */
  heartbeatMs: number;
  /** `103 Early Hints` while a client waits for JSON. */
  keepalive1xx: boolean;
  /** Of pages that may open sockets, beside the server's own. */
  allowedOrigins: readonly string[];
  /** How pictures are drawn whose request does not say. */
  acceleration: DefaultAcceleration;
  /** Full batches draw by few steps and without drafts where the request leaves that open. */
  throughput: boolean;
  /** The engine runs in the server's own process. */
  inProcess: boolean;
  /** A worker process that is silent for so long is replaced; so is one whose step takes ten times as long. */
  workerTimeoutSeconds: number;
  logLevel: LogLevel;
}

interface Setting<T> {
  env: string;
  fallback: string;
  parse: (text: string) => T;
  help: string;
  /** A flag without a value. */
  isSwitch?: true;
}

/** Captions first: what requests that name no model mean. */
const BUNDLED_MODELS = ['nextstep-emoji64', 'transdiff-emoji64'].map((name) => join(PACKAGE_ROOT, 'models', name)).join(',');

/** Every setting once: `--flag`, environment variable, default with its reason. A flag wins over the environment. */
const SETTINGS = {
  // All interfaces: the server is meant to be reached, also from outside a container.
  host: { env: 'HOST', fallback: '0.0.0.0', parse: (text: string) => text, help: 'address to listen on' },
  port: { env: 'PORT', fallback: '8080', parse: integer(0, 65_535), help: 'port to listen on; 0 takes a free one' },
  // The bundled demos: what `npm start` draws with on a fresh machine.
  model: { env: 'ARDIFF_MODEL', fallback: BUNDLED_MODELS, parse: folders, help: 'model folder, or several with commas between them; requests that name no model get the first' },
  // A GPU where there is one that this build can use; what is named is used or refused.
  device: { env: 'ARDIFF_DEVICE', fallback: 'auto', parse: parseDevices, help: 'auto, cpu, cuda:N, or several of a kind with commas between them: a worker each' },
  // Older than --device, and the way to the reference backend.
  backend: { env: 'ARDIFF_BACKEND', fallback: '', parse: parseBackend, help: 'reference: plain loops on the cpu; else what --device says' },
  // bfloat16 only where the processor multiplies it natively; elsewhere float32 is faster.
  dtype: { env: 'ARDIFF_DTYPE', fallback: 'auto', parse: oneOf<ComputeDtype>('auto', 'float32', 'bfloat16'), help: 'auto, float32 or bfloat16' },
  threads: { env: 'ARDIFF_THREADS', fallback: '0', parse: integer(0, 1024), help: 'compute threads; 0: one per physical core, within the CPU quota of a container' },
  // A batch of 16 is where more pictures stop making each one cheaper.
  'kv-sequences': { env: 'ARDIFF_KV_SEQUENCES', fallback: '16', parse: integer(1, 65_536), help: 'pictures whose KV cache fits at once' },
  'max-batch': { env: 'ARDIFF_MAX_BATCH', fallback: '16', parse: integer(1, 1024), help: 'pictures in the batch at once' },
  // The fastest way that draws as well as the model's own sampler, by the folder's calibration; without one there is nothing to choose.
  acceleration: { env: 'ARDIFF_ACCELERATION', fallback: 'auto', parse: oneOf<DefaultAcceleration>('auto', 'off', ...MODE_KEYS), help: 'for requests that do not say: auto, off, or a calibrated mode like relaxed:few_step:1' },
  // Off: with it, bytes depend on how many share the batch.
  throughput: {
    env: 'ARDIFF_THROUGHPUT',
    fallback: 'false',
    parse: boolean,
    help: 'few steps and no drafts in a crowded batch: faster, but bytes depend on the load',
    isSwitch: true,
  },
  // Four full batches: beyond that a client is better told to come back. Every job waits for the next step at least.
  queue: { env: 'ARDIFF_QUEUE', fallback: '64', parse: integer(1, 1_000_000), help: 'jobs that may wait' },
  // Kubernetes kills after 30 s by default.
  'drain-timeout': { env: 'ARDIFF_DRAIN_TIMEOUT', fallback: '25', parse: integer(0, 86_400), help: 'seconds for running jobs after SIGTERM' },
  // Common proxies close a connection after 60 s of silence; some browsers sooner.
  heartbeat: { env: 'ARDIFF_HEARTBEAT', fallback: '15', parse: integer(1, 3600), help: 'seconds of silence before a stream gets a comment' },
  // Node's fetch gives up after 300 s without a response header. Off: for proxies that mishandle interim answers.
  'keepalive-1xx': { env: 'ARDIFF_KEEPALIVE_1XX', fallback: 'on', parse: oneOf<'on' | 'off'>('on', 'off'), help: '103 Early Hints every 30 s while a client waits; on or off' },
  // A crash of native code must not take the server along.
  'in-process': {
    env: 'ARDIFF_IN_PROCESS',
    fallback: 'false',
    parse: boolean,
    help: 'run the engine in the server process (debugging, embedding): a crash of it ends the server',
    isSwitch: true,
  },
  // Browsers open sockets for any page; without a list only the server's own pages may.
  'allow-origin': { env: 'ARDIFF_ALLOW_ORIGIN', fallback: '', parse: origins, help: 'origins of pages that may open sockets, separated by commas; * for any' },
  // Silence means an event loop that stands still; steps run on another thread. Ten minutes for a step is beyond any.
  'worker-timeout': { env: 'ARDIFF_WORKER_TIMEOUT', fallback: '60', parse: integer(1, 86_400), help: 'seconds without a sign of life until the worker is replaced' },
  'log-level': {
    env: 'ARDIFF_LOG_LEVEL',
    fallback: 'info',
    parse: oneOf<LogLevel>('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    help: 'trace, debug, info, warn, error, fatal or silent',
  },
} as const satisfies Record<string, Setting<unknown>>;

type Name = keyof typeof SETTINGS;

/** A wrong flag or variable; the message is for the person who typed it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

export function readConfig(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Config {
  const flags = parseFlags(argv);
  const value = <K extends Name>(name: K): ReturnType<(typeof SETTINGS)[K]['parse']> => {
    const { env: variable, fallback, parse } = SETTINGS[name];
    const [text, source] = flags[name] !== undefined ? [flags[name], `--${name}`] : [nonEmpty(env[variable]) ?? fallback, variable];
    try {
      return parse(text) as ReturnType<(typeof SETTINGS)[K]['parse']>;
    } catch (error) {
      throw new ConfigError(`${source}: ${error instanceof Error ? error.message : String(error)}, received ${JSON.stringify(text)}`);
    }
  };
  return Object.freeze({
    host: value('host'),
    port: value('port'),
    modelDirectories: value('model'),
    devices: agreed(value('device'), value('backend')),
    dtype: value('dtype'),
    threads: value('threads'),
    kvSequences: value('kv-sequences'),
    maxBatch: value('max-batch'),
    queue: value('queue'),
    drainTimeoutMs: value('drain-timeout') * 1000,
    heartbeatMs: value('heartbeat') * 1000,
    keepalive1xx: value('keepalive-1xx') === 'on',
    allowedOrigins: value('allow-origin'),
    acceleration: value('acceleration'),
    throughput: value('throughput'),
    inProcess: value('in-process'),
    workerTimeoutSeconds: value('worker-timeout'),
    logLevel: value('log-level'),
  });
}

export function usage(command = 'npm start --'): string {
  const lines = Object.entries(SETTINGS).map(([name, { env, fallback, help }]) => {
    const shown = fallback === BUNDLED_MODELS ? 'the bundled demo models' : fallback;
    return `  --${name.padEnd(14)} ${help} (${env}${shown === '' ? '' : `, default ${shown}`})`;
  });
  return [`Usage: ${command} [flags]`, ...lines].join('\n');
}

function parseFlags(argv: readonly string[]): Partial<Record<Name, string>> {
  const settings = Object.entries<Setting<unknown>>(SETTINGS);
  const options = Object.fromEntries(settings.map(([name, { isSwitch }]) => [name, { type: isSwitch === true ? ('boolean' as const) : ('string' as const) }]));
  try {
    const { values } = parseArgs({ args: [...argv], options, allowPositionals: false });
    return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
  } catch (error) {
    throw new ConfigError(error instanceof Error ? error.message : String(error));
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** Names on the wire are the folders' names, so no two may be equal. */
function folders(text: string): readonly [string, ...string[]] {
  const [first, ...others] = text.split(',').map((part) => part.trim()).filter((part) => part !== '');
  if (first === undefined) throw new RangeError('expected a model folder');
  const names = [first, ...others].map((folder) => basename(resolve(folder)));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new RangeError(`two model folders are called ${JSON.stringify(twice)}, which is what requests name them by`);
  return [first, ...others];
}

/** The one folder of commands that work on one: where none is named, the first of the bundled ones. */
export function onlyModel({ modelDirectories }: Pick<Config, 'modelDirectories'>): string {
  const [first, ...others] = modelDirectories;
  if (others.length > 0 && modelDirectories.join() !== BUNDLED_MODELS) throw new ConfigError(`--model: one folder is expected, received ${others.length + 1}`);
  return first;
}

/** Likewise, the one device. */
export function onlyDevice({ devices }: Pick<Config, 'devices'>): DeviceChoice {
  const [first, ...others] = devices;
  if (others.length > 0) throw new ConfigError(`--device: one device is expected, received ${others.length + 1}`);
  return first;
}

function agreed(devices: DeviceChoices, backend: ReturnType<typeof parseBackend>): DeviceChoices {
  try {
    return combine(devices, backend);
  } catch (error) {
    throw new ConfigError(error instanceof Error ? error.message : String(error));
  }
}

function origins(text: string): readonly string[] {
  const list = text.split(',').map((part) => part.trim()).filter((part) => part !== '');
  for (const origin of list) {
    if (origin !== '*' && !(URL.canParse(origin) && new URL(origin).origin === origin)) throw new RangeError('expected origins like https://example.org, or *');
  }
  return list;
}

function boolean(text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw new RangeError('expected true or false');
}

function integer(min: number, max: number) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new RangeError(`expected an integer from ${min} to ${max}`);
    return value;
  };
}

function oneOf<T extends string>(...values: readonly T[]) {
  return (text: string): T => {
    const found = values.find((value) => value === text);
    if (found === undefined) throw new RangeError(`expected one of ${values.join(', ')}`);
    return found;
  };
}
