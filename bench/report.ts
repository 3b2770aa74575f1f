import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { EngineInfo } from '../src/engine/native-types.js';

export interface Row {
  what: string;
  /** For people: "12 ms (11 … 14)". */
  measured: string;
  /** What was aimed at, and whether it was reached; empty for supporting figures. */
  aim: string;
  reached?: boolean;
}

/** One part of the bench. `figures` is everything behind the rows, for machines. */
export interface PartReport {
  title: string;
  rows: Row[];
  figures: Record<string, unknown>;
  /** Why nothing (or not all) was measured. */
  notMeasured?: string;
}

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  isa: string;
  node: string;
  libraries: string;
  compiler: string;
}

interface ResultFile {
  machine: Machine;
  parts: Record<string, PartReport & { commit: string; date: string }>;
}

export function describeMachine(info: EngineInfo): Machine {
  return {
    cpu: cpuModel(),
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    isa: info.isa,
    node: process.versions.node,
    libraries: info.libraries,
    compiler: firstLine('g++', ['--version']),
  };
}

export function printPart(name: string, report: PartReport): void {
  console.log(`\n## ${name}: ${report.title}\n`);
  if (report.rows.length > 0) {
    console.log('| what | measured: median (min … max) | aim |\n|---|---|---|');
    for (const row of report.rows) console.log(`| ${row.what} | ${row.measured} | ${row.aim}${verdict(row)} |`);
  }
  if (report.notMeasured !== undefined) console.log(`\nNOT MEASURED: ${report.notMeasured}`);
}

function verdict({ reached }: Row): string {
  if (reached === undefined) return '';
  return reached ? ': reached' : ': **not reached**';
}

/** Parts measured on the same machine live in one file, each with its own commit and date. */
export function saveParts(machine: Machine, parts: ReadonlyMap<string, PartReport>): string {
  const folder = join(PACKAGE_ROOT, 'bench', 'results');
  const path = join(folder, `${resultSlug(machine)}.json`);
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ResultFile) : { machine, parts: {} };
  const commit = describeCommit();
  const date = new Date().toISOString().slice(0, 10);
  const measured = Object.fromEntries([...parts].map(([name, report]) => [name, { ...report, commit, date }]));
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, `${JSON.stringify({ machine, parts: { ...before.parts, ...measured } }, null, 1)}\n`);
  return path;
}

/** A machine's name as part of a file's. */
export function resultSlug({ cpu, cores, isa }: Machine): string {
  return `${cpu}-${cores}-${isa}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

/** "+" marks a tree with uncommitted changes to what is measured. */
export function describeCommit(): string {
  const commit = firstLine('git', ['rev-parse', '--short', 'HEAD']);
  const changed = firstLine('git', ['status', '--porcelain', '--untracked-files=no', '--', 'native', 'src', 'models', 'CMakeLists.txt']);
  return changed === '' ? commit : `${commit}+`;
}

/** What Node calls the model is the vendor's whole sentence; virtual machines say less. */
function cpuModel(): string {
  return cpus()[0]?.model.trim() ?? 'unknown';
}

function firstLine(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { cwd: PACKAGE_ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0]!.trim();
  } catch {
    return '';
  }
}
