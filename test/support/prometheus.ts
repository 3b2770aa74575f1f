import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { PROMETHEUS_DIRECTORY, readYaml } from './monitoring.js';
import { until } from './until.js';

export interface Series {
  metric: Record<string, string>;
  value: [time: number, value: string];
}

interface Reply<T> {
  status: 'success' | 'error';
  error?: string;
  data: T;
}

export const hasPrometheus = (): boolean => spawnSync('prometheus', ['--version']).status === 0;

/** A Prometheus with the shipped configuration, but for where and how often it scrapes. */
export class Prometheus {
  private constructor(
    private readonly child: ChildProcess,
    private readonly directory: string,
    private readonly url: string,
  ) {}

  static async start(target: string): Promise<Prometheus> {
    const directory = mkdtempSync(join(tmpdir(), 'ardiff-prometheus-'));
    const config = readYaml<Record<string, unknown> & { scrape_configs: { static_configs: { targets: string[] }[] }[] }>('prometheus.yml');
    config.global = { scrape_interval: '1s', evaluation_interval: '1s' };
    config.rule_files = [join(PROMETHEUS_DIRECTORY, 'alerts.yml')];
    config.scrape_configs[0]!.static_configs[0]!.targets = [target];
    writeFileSync(join(directory, 'prometheus.yml'), stringify(config));
    const address = `127.0.0.1:${await freePort()}`;
    const flags = [`--config.file=${join(directory, 'prometheus.yml')}`, `--storage.tsdb.path=${join(directory, 'data')}`, `--web.listen-address=${address}`];
    const child = spawn('prometheus', flags, { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.on('data', (chunk) => (log += String(chunk)));
    const prometheus = new Prometheus(child, directory, `http://${address}`);
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`prometheus exited with ${child.exitCode}: ${log}`);
      return fetch(`http://${address}/-/ready`).then((reply) => reply.ok, () => false);
    }, 'a ready Prometheus', 60_000);
    return prometheus;
  }

  /** Instant query. Throws what Prometheus says about a wrong expression. */
  async query(expr: string): Promise<Series[]> {
    return (await this.get<{ result: Series[] }>(`query?query=${encodeURIComponent(expr)}`)).result;
  }

  async rules(): Promise<{ name: string; health: string; lastError?: string; state: string }[]> {
    const { groups } = await this.get<{ groups: { rules: { name: string; health: string; state: string }[] }[] }>('rules');
    return groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    if (this.child.exitCode === null) {
      this.child.kill('SIGTERM');
      await exited;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async get<T>(path: string): Promise<T> {
    const reply = (await (await fetch(`${this.url}/api/v1/${path}`)).json()) as Reply<T>;
    if (reply.status !== 'success') throw new Error(`${path}: ${reply.error ?? 'no success'}`);
    return reply.data;
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
