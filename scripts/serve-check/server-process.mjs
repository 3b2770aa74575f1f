// The real server in a process of its own, and requests to it that cannot wait for ever.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** CUDA's first use of a device and a model's load take seconds. */
const READY_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 10_000;
const REQUEST_LIMIT_MS = 20_000;

export class ServerProcess {
  #agent = new Agent({ keepAlive: true });
  #port;
  #child;
  #log;

  /** Starts it and returns at once; `log` is the file that gets what it prints. */
  static async start({ folder, model, device, log }) {
    const server = new ServerProcess();
    server.#port = await freePort();
    server.#log = log;
    const flags = ['--host', '127.0.0.1', '--port', String(server.#port), '--device', device, '--model', model];
    server.#child = spawn(process.execPath, [join(folder, 'dist', 'main.js'), ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    const file = createWriteStream(log);
    for (const stream of [server.#child.stdout, server.#child.stderr]) stream.pipe(file, { end: false });
    return server;
  }

  /** Seconds until /readyz answers 200, and its answer. */
  async ready() {
    const begin = performance.now();
    while (performance.now() - begin < READY_LIMIT_MS) {
      if (this.#ended) throw new Error(`the server ended before it was ready (status ${this.#child.exitCode ?? this.#child.signalCode})`);
      const answer = await this.get('/readyz').catch(() => null);
      if (answer?.status === 200) return { seconds: (performance.now() - begin) / 1000, ...JSON.parse(answer.text) };
      await sleep(20);
    }
    throw new Error(`the server is not ready after ${READY_LIMIT_MS / 1000} s`);
  }

  get(path) {
    return this.#exchange('GET', path);
  }

  async post(path, body) {
    const { status, text } = await this.#exchange('POST', path, JSON.stringify(body));
    return { status, json: JSON.parse(text) };
  }

  /** SIGTERM; the exit status. */
  async stop() {
    if (!this.#ended) {
      const exit = once(this.#child, 'exit', { signal: AbortSignal.timeout(STOP_LIMIT_MS) });
      this.#child.kill('SIGTERM');
      await exit.catch(() => { throw new Error(`the server has not ended ${STOP_LIMIT_MS / 1000} s after SIGTERM`); });
    }
    this.#agent.destroy();
    return this.#child.exitCode ?? this.#child.signalCode;
  }

  kill() {
    this.#agent.destroy();
    if (!this.#ended) this.#child.kill('SIGKILL');
  }

  /** The end of what it printed. */
  lastLines(count = 20) {
    return readFileSync(this.#log, 'utf8').trimEnd().split('\n').slice(-count).join('\n');
  }

  get #ended() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #exchange(method, path, body) {
    return new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const signal = AbortSignal.timeout(REQUEST_LIMIT_MS);
      const call = request({ host: '127.0.0.1', port: this.#port, method, path, headers, agent: this.#agent, signal }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('end', () => { resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString() }); });
        response.on('error', reject);
      });
      call.on('error', reject);
      call.end(body);
    });
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
