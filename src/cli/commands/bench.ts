import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../../engine/native.js';
import type { ImagesRequest } from '../../gateway/schemas.js';
import { CommandError, type Command, type Terminal } from '../command.js';
import { send } from '../drawing/remote.js';
import { describeFlags, integer, parseFlags, text, url, UsageError, type FlagValues } from '../flags.js';
import { ProgressBar } from '../progress-bar.js';

const FLAGS = {
  url: url('the server to load'),
  requests: integer('how many in all (default 64)', [1]),
  concurrency: integer('how many at once; the next is sent when one is answered (default 8)', [1, 1024]),
  prompt: text('same for all; seeds count up from 0 (default "red apple")'),
  size: text('default: the native size', { placeholder: 'WIDTHxHEIGHT' }),
  steps: integer('timesteps per image token', [1, 200]),
};

const HELP = `Usage: fast-ardiff bench --url URL [flags]
       fast-ardiff bench [parts and flags of npm run bench]

With --url: a quick load on a running server, one picture per request, and what its clients saw. Closed loop: slow
answers slow the load down too, so the tail is kinder than that of independent users.
Without: the project's own measurements against PyTorch and the memory's bandwidth; they need a clone of the repository.

${describeFlags(FLAGS)}`;

export const bench: Command = {
  summary: 'measure a running server, or run the project\'s benchmarks',
  help: HELP,
  run: async (args, terminal) => {
    if (!args.some((arg) => arg === '--url' || arg.startsWith('--url='))) return runProjectBench(args);
    const { values, positionals } = parseFlags(FLAGS, args);
    if (positionals.length > 0) throw new UsageError(`unexpected ${JSON.stringify(positionals[0])}`);
    return loadServer(values, terminal);
  },
};

async function loadServer(values: FlagValues<typeof FLAGS>, terminal: Terminal): Promise<number> {
  const { url: server = '', requests = 64, concurrency = 8, prompt = 'red apple', size, steps } = values;
  const body = (seed: number): ImagesRequest => ({ prompt, seed, ...(size === undefined ? {} : { size }), ...(steps === undefined ? {} : { num_inference_steps: steps }) });
  // One ahead: what is slow only once (a cold cache, a new connection) is not the server's speed.
  await draw(server, body(requests), terminal);
  const bar = new ProgressBar(terminal, 'requests');
  const latencies: number[] = [];
  const failures = new Map<string, number>();
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < requests && !terminal.signal.aborted) {
      const seed = next;
      next += 1;
      const begin = performance.now();
      try {
        await draw(server, body(seed), terminal);
        latencies.push((performance.now() - begin) / 1000);
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        failures.set(error.message, (failures.get(error.message) ?? 0) + 1);
      }
      bar.show((latencies.length + count(failures)) / requests, null);
    }
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: Math.min(concurrency, requests) }, client));
  const seconds = (performance.now() - begin) / 1000;
  bar.clear();
  if (terminal.signal.aborted) return 130;
  terminal.out(report(latencies, seconds, concurrency));
  for (const [message, times] of failures) terminal.out(`${times} failed: ${message}\n`);
  return failures.size === 0 ? 0 : 1;
}

/** The whole answer is read: pictures are most of it. */
async function draw(server: string, body: ImagesRequest, { env, signal }: Terminal): Promise<void> {
  await (await send(server, env.OPENAI_API_KEY, body, signal)).arrayBuffer();
}

export function report(latencies: readonly number[], seconds: number, concurrency: number): string {
  if (latencies.length === 0) return 'no picture was drawn\n';
  const sorted = [...latencies].sort((a, b) => a - b);
  // Nearest rank: a latency that somebody had.
  const quantile = (q: number): string => sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!.toFixed(3);
  return (
    `${latencies.length} pictures in ${seconds.toFixed(2)} s, ${concurrency} at once: ${(latencies.length / seconds).toFixed(2)} pictures/s\n` +
    `latency s: p50 ${quantile(0.5)}, p95 ${quantile(0.95)}, p99 ${quantile(0.99)}, max ${quantile(1)}\n`
  );
}

function count(failures: ReadonlyMap<string, number>): number {
  return [...failures.values()].reduce((sum, times) => sum + times, 0);
}

async function runProjectBench(args: readonly string[]): Promise<number> {
  const script = join(PACKAGE_ROOT, 'bench', 'main.ts');
  if (!existsSync(script)) throw new UsageError('--url is missing, and this installation has no bench/ folder');
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...args], { cwd: PACKAGE_ROOT, stdio: 'inherit' });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status ?? 1;
}
