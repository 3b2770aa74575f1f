import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { BenchOptions } from './context.js';
import { RawClients } from './raw-client.js';

/** A server process of the built tree, as `npm start` runs it, on a free port. */
export class Server {
  private readonly clients: RawClients;

  private constructor(
    private readonly child: ChildProcess,
    readonly url: string,
    /** Start of the process to the first answer 200 of /readyz. */
    readonly readySeconds: number,
  ) {
    this.clients = new RawClients(Number(new URL(url).port));
  }

  static async start(options: BenchOptions): Promise<Server> {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const begin = performance.now();
    const flags = {
      host: '127.0.0.1',
      port: String(port),
      model: options.modelDirectory,
      backend: options.backend,
      threads: String(options.threads),
      'log-level': 'error',
    };
    const child = spawn(
      process.execPath,
      [join(PACKAGE_ROOT, 'dist', 'main.js'), ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    await ready(child, url);
    return new Server(child, url, (performance.now() - begin) / 1000);
  }

  async generate(body: object): Promise<GenerateAnswer> {
    const { text, seconds } = await this.clients.post('/v1/images/generations', JSON.stringify(body));
    const { timings } = JSON.parse(text) as { timings: { encode_ms: number } };
    return { wallSeconds: seconds, encodeSeconds: timings.encode_ms / 1000 };
  }

  /** Seconds of the smallest exchange there is: what a request costs that asks for nothing. */
  async roundTrip(): Promise<number> {
    return (await this.clients.get('/healthz')).seconds;
  }

  /** Sum of a metric over its labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
    if (!text.includes(`# TYPE ${name} `)) throw new Error(`the server has no metric ${name}`);
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.clients.close();
      this.child.once('exit', () => { resolve(); });
      this.child.kill('SIGTERM');
    });
  }
}

export interface GenerateAnswer {
  wallSeconds: number;
  /** What the server says its picture encoding took. */
  encodeSeconds: number;
}

async function ready(child: ChildProcess, url: string): Promise<void> {
  const LIMIT_MS = 60_000;
  const begin = performance.now();
  for (;;) {
    if (performance.now() - begin > LIMIT_MS) {
      child.kill('SIGKILL');
      throw new Error('the server is not ready after a minute');
    }
    if (child.exitCode !== null) throw new Error(`the server ended with status ${child.exitCode}`);
    const ok = await fetch(`${url}/readyz`).then((response) => response.ok, () => false);
    if (ok) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (typeof address === 'object' && address !== null) resolve(address.port);
        else reject(new Error('no free port'));
      });
    });
  });
}
