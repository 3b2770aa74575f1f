import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MODE_KEYS } from '../../src/model/accelerator.js';
import { calibratedMode, writeCalibration } from './accelerator-folder.js';
import { valueOf } from './exposition.js';
import { writeUntrainedWeights } from './untrained-accelerator.js';
import { writeUntrainedTransDiff } from './untrained-transdiff.js';
import { until } from './until.js';
import { ADDON_PATH, PACKAGE_ROOT } from '../../src/engine/native.js';

const TINY_MODEL = join(PACKAGE_ROOT, 'test', 'golden', 'nextstep-tiny');

/** `npm test` builds the addon first; whoever runs vitest alone without it gets told why nothing ran. */
export function isAddonBuilt(): boolean {
  const built = existsSync(ADDON_PATH);
  if (!built) console.error(`\n*** SKIPPED: end-to-end tests need the native addon (${ADDON_PATH}); run "npm run build:native" ***\n`);
  return built;
}

export interface Answer {
  status: number;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  json: { data: { b64_json: string; seed: number }[]; error: { code: string; message: string } };
}

/** A server as `npm start` runs it, in a process of its own. */
export class ServerProcess {
  /** Exit status, or null after a signal. */
  readonly exited: Promise<number | null>;

  private constructor(
    private readonly child: ChildProcess,
    private readonly directory: string,
    readonly port: number,
  ) {
    this.exited = new Promise((resolve) => child.once('exit', resolve));
  }

  /** With the tiny golden model, alone, twice under two names, beside one of classes, or with an accelerator, or with none named: then the server takes the bundled ones. */
  static async start(flags: readonly string[] = [], model: 'tiny' | 'twins' | 'families' | 'accelerated' | 'bundled' = 'tiny'): Promise<ServerProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'ardiff-e2e-'));
    const folders = (model === 'twins' ? ['tiny', 'other'] : ['tiny']).map((name) => writeTinyModel(directory, name));
    if (model === 'families') folders.push(await writeUntrainedTransDiff(join(directory, 'zoo')));
    const modelFlags = model === 'bundled' ? [] : ['--model', folders.join()];
    if (model === 'accelerated') await writeTinyAccelerator(join(directory, 'tiny'));
    const entry = join(PACKAGE_ROOT, 'src', 'main.ts');
    const child = spawn(process.execPath, ['--import', 'tsx', entry, '--port', '0', '--host', '127.0.0.1', ...modelFlags, ...flags], {
      cwd: PACKAGE_ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      // Tests share the machine with builds and each other; threads that spin for one that is not scheduled cost 10x.
      env: { ...process.env, GOMP_SPINCOUNT: '1000' },
    });
    let errors = '';
    child.stderr.on('data', (chunk) => (errors += String(chunk)));
    const port = await listeningPort(child, () => errors);
    const server = new ServerProcess(child, directory, port);
    // One that does not come up is not left behind.
    await server.ready().catch(async (error: unknown) => {
      child.kill('SIGKILL');
      await server.stop();
      throw error;
    });
    return server;
  }

  async ready(): Promise<void> {
    await until(async () => (await this.get('/readyz')).status === 200, 'readiness', 60_000);
  }

  /** POST /v1/images/generations; `signal` closes the socket. */
  draw(body: object, signal?: AbortSignal): Promise<Answer> {
    return this.send('POST', '/v1/images/generations', JSON.stringify(body), signal);
  }

  /** The same, as text: of streams. */
  async post(body: object): Promise<{ status: number; text: string }> {
    const { status, text } = await exchange(this.port, 'POST', '/v1/images/generations', JSON.stringify(body));
    return { status, text };
  }

  async get(path: string): Promise<{ status: number; text: string }> {
    const { status, text } = await exchange(this.port, 'GET', path);
    return { status, text };
  }

  /** Of /metrics, as `valueOf` selects it; 0 when it is not there yet. */
  async metric(selector: string): Promise<number> {
    return valueOf((await this.get('/metrics')).text, selector) ?? 0;
  }

  async until(sample: string, wanted: (value: number) => boolean): Promise<void> {
    await until(async () => wanted(await this.metric(sample)), sample);
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  /** Folder of the tiny model that it serves, its own copy. */
  get modelDirectory(): string {
    return join(this.directory, 'tiny');
  }

  /** Of the worker process; null when there is none (its engine is in the server's process, or it is being replaced). */
  workerPid(): number | null {
    return this.workerPids()[0] ?? null;
  }

  /** Of all of them. */
  workerPids(): number[] {
    return childrenOf(this.child.pid!).filter((pid) => commandOf(pid).startsWith('fast-ardiff-worker'));
  }

  /** Ends the process if it still runs, and removes what it was started with. */
  async stop(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGTERM');
    const code = await this.exited;
    rmSync(this.directory, { recursive: true, force: true });
    return code;
  }

  private async send(method: string, path: string, body: string, signal?: AbortSignal): Promise<Answer> {
    const { status, headers, text } = await exchange(this.port, method, path, body, signal);
    return { status, headers, json: JSON.parse(text) as Answer['json'] };
  }
}

/** The golden model, with longer pictures than the golden ones, so that they outgrow a KV block several times. */
function writeTinyModel(directory: string, name: string): string {
  const model = join(directory, name);
  cpSync(TINY_MODEL, model, { recursive: true });
  const sampling = { sampler: 'B', timesteps: 4, guidance_scale: 3, use_norm: true, sizes: ['128x128', '64x64'] };
  writeFileSync(join(model, 'sampling.json'), JSON.stringify(sampling));
  return model;
}

/** Of weights that were never trained, in every mode; drafts are accepted and rejected in turn. */
async function writeTinyAccelerator(model: string): Promise<void> {
  await writeUntrainedWeights(model);
  const modes = Object.fromEntries(
    MODE_KEYS.map((key) => {
      const drafts = !key.startsWith('few_step');
      // About half of the drafts of this accelerator pass.
      const tolerance = key === 'exact' ? 0 : key === 'relaxed' ? 9 : 0.9;
      const drafting = key.endsWith('2') ? 'parallel' : 'sequential';
      return [key, calibratedMode(2, drafts ? { drafts, drafting, tolerance, max_draft_tokens: 5, acceptance: 0.6, gate: { kind: 'paper', layer: 0, mean: 0.9, std: 0.1 } } : {})];
    }),
  );
  writeCalibration(model, { modes, auto: { mode: 'relaxed', few_step: 1 } });
}

/** Runs a server that is expected to end by itself, or by the signal that it gets as soon as it listens. */
export async function runToExit(flags: readonly string[], signal?: NodeJS.Signals): Promise<{ code: number | null; errors: string; log: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', join(PACKAGE_ROOT, 'src', 'main.ts'), '--port', '0', '--host', '127.0.0.1', ...flags], {
    cwd: PACKAGE_ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk) => (errors += String(chunk)));
  let log = '';
  child.stdout.on('data', (chunk) => {
    log += String(chunk);
    if (signal !== undefined && String(chunk).includes('Server listening')) child.kill(signal);
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, errors, log };
}

/** Children started by any thread of a process. */
function childrenOf(pid: number): number[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).flatMap((task) => readFileSync(join(tasks, task, 'children'), 'utf8').split(' ').filter(Boolean).map(Number));
}

/** Empty once the process is gone. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** Plain node:http: no proxy from the environment, no connection reuse between tests. */
function exchange(port: number, method: string, path: string, body = '', signal?: AbortSignal): Promise<{ status: number; headers: Answer['headers']; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = body === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const call = request({ host: '127.0.0.1', port, method, path, headers, agent: false, ...(signal === undefined ? {} : { signal }) }, (reply) => {
      let text = '';
      reply.on('data', (chunk) => (text += String(chunk)));
      reply.on('end', () => {
        resolve({ status: reply.statusCode ?? 0, headers: reply.headers, text });
      });
      reply.on('error', reject);
    });
    call.on('error', reject);
    call.end(body);
  });
}

/** From the log line that Fastify writes once it listens. */
function listeningPort(child: ChildProcess, errors: () => string): Promise<number> {
  return new Promise((resolve, reject) => {
    let log = '';
    child.stdout?.on('data', (chunk) => {
      log += String(chunk);
      const match = /listening at http:\/\/127\.0\.0\.1:(\d+)/.exec(log);
      if (match !== null) resolve(Number(match[1]));
    });
    child.once('exit', (code) => {
      reject(new Error(`server exited with ${code}: ${errors()}`));
    });
  });
}
