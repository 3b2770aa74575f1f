#!/usr/bin/env node
// The real server on a device: starts it, checks what it answers, measures pictures per second, stops it; then measures another device
// the same way and prints both and their ratio as a short markdown report. Needs Node alone: no npm, no network, no development package.
//
//   node scripts/gpu-serve-check.mjs [--device cuda:0] [--compare cpu|none] [--model FOLDER] [--seconds 3] [--out FOLDER] [FOLDER]
//
// FOLDER is a checkout that is built, or a folder of scripts/pack-server; by default the one that this file is in. --compare is cpu, or none
// where --device is cpu. --seconds is the length of each of four measurements on each device. --out gets report.md, the pictures and
// the servers' logs, by default build/serve-check of FOLDER. ARDIFF_* variables reach the server and stand in the report. Under a minute on a GPU; every wait has a limit.
// Exit status 0: all checks passed; 1: one did not, or the server did not start; 2: wrong flags.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, release } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Checks, checkServer, CROWD, OWN_SAMPLER } from './serve-check/checks.mjs';
import { makeDraftingModel } from './serve-check/drafting-model.mjs';
import { meanDifference, measure } from './serve-check/pictures.mjs';
import { ServerProcess } from './serve-check/server-process.mjs';

const options = readOptions();
mkdirSync(options.out, { recursive: true });
const checks = new Checks();
const begin = performance.now();
const drafting = makeDraftingModel(options.model);
const served = [options.model, ...(drafting === null ? [] : [drafting.folder])].join();
const main = await run(options.device);
const other = options.compare === 'none' ? null : await run(options.compare);
if (main?.png !== undefined && other?.png !== undefined) await checks.check(`${options.device} and ${options.compare} draw the same picture`, comparePictures);
if (drafting !== null) rmSync(drafting.parent, { recursive: true });
const text = report();
writeFileSync(join(options.out, 'report.md'), text);
console.log(text);
process.exitCode = checks.failed > 0 ? 1 : 0;

/** Checks and measures one device; null where the server did not get ready. */
async function run(device) {
  const name = device.replace(':', '-');
  const server = await ServerProcess.start({ folder: options.folder, model: served, device, log: join(options.out, `server-${name}.log`) });
  let result = null;
  try {
    await checks.check(`${device}: the server gets ready`, async () => {
      const ready = await server.ready();
      result = { device, ready };
      return `${ready.seconds.toFixed(2)} s`;
    });
    if (result !== null) {
      Object.assign(result, await checkServer(checks, server, result.ready, device));
      if (result.png !== undefined) writeFileSync(join(options.out, `${name}.png`), Buffer.from(result.png, 'base64'));
      await checks.check(`${device}: draws under load`, async () => {
        result.speeds = await measureAll(server, result.prompt);
        return `${result.speeds.map(({ picturesPerSecond }) => picturesPerSecond.toFixed(1)).join(', ')} pictures/s`;
      });
      await checks.check(`${device}: SIGTERM ends it with status 0`, async () => {
        const status = await server.stop();
        if (status !== 0) throw new Error(`status ${status}`);
        return 'status 0';
      });
    }
  } catch (error) {
    await checks.check(`${device}: the check itself`, () => { throw error; });
  } finally {
    server.kill();
    if (checks.failed > 0) console.error(`--- the end of what the server printed\n${server.lastLines()}\n---`);
  }
  return result;
}

/** The model's own sampler and what the server takes by itself, one client and a full batch of them. */
async function measureAll(server, prompt) {
  const speeds = [];
  for (const [label, ways] of [['own sampler', OWN_SAMPLER], ['as the server is set', {}]]) {
    for (const clients of [1, CROWD]) speeds.push({ label, clients, ...(await measure(server, prompt, clients, options.seconds, ways)) });
  }
  return speeds;
}

/** Devices round differently, so bytes differ; the picture of a seed must still be the same, and not that of another seed. */
async function comparePictures() {
  const sharp = createRequire(join(options.folder, 'package.json'))('sharp');
  const same = await meanDifference(sharp, main.png, other.png);
  const another = await meanDifference(sharp, main.png, main.otherPng);
  if (same > another / 4) throw new Error(`mean difference ${same.toFixed(2)} of 255; to another seed's picture ${another.toFixed(2)}`);
  return `mean difference ${same.toFixed(2)} of 255; to another seed's picture ${another.toFixed(2)}`;
}

function report() {
  const { version } = JSON.parse(readFileSync(join(options.folder, 'package.json'), 'utf8'));
  const runs = [main, other].filter((result) => result !== null);
  const variables = Object.entries(process.env).filter(([name]) => name.startsWith('ARDIFF_')).map(([name, value]) => `${name}=${value}`);
  const measured = runs.filter(({ speeds }) => speeds !== undefined);
  const lines = [
    `# The server on ${options.device}`,
    '',
    `fast-ardiff ${version}, Node ${process.version}, Linux ${release()}, ${cpus()[0].model} (${availableParallelism()} threads)${variables.map((text) => `, ${text}`).join('')}, ${basename(options.model)}, ${new Date().toISOString()}`,
    ...runs.map(({ ready }) => `\n- ${ready.device}: ${ready.workers[0].device?.name}, backend ${ready.backend}, ${ready.dtype}, ${ready.isa}, ${[ready.libraries].flat().join(', ')}; ready after ${ready.seconds.toFixed(2)} s`),
    '',
    '| check | | |',
    '|---|---|---|',
    ...checks.rows.map(({ name, ok, detail }) => `| ${name} | ${ok ? 'passed' : '**failed**'} | ${detail} |`),
  ];
  if (measured.length > 0) {
    lines.push('', `Pictures per second over ${options.seconds} s, and the median time of one, over HTTP with the client on the same machine:`, '');
    lines.push(`| drawn | clients | ${measured.map(({ device }) => device).join(' | ')} |${measured.length === 2 ? ` ${measured[0].device} / ${measured[1].device} |` : ''}`);
    lines.push(`|---|---|${'---|'.repeat(measured.length === 2 ? 3 : 1)}`);
    measured[0].speeds.forEach(({ label, clients }, i) => {
      const cells = measured.map(({ speeds }) => `${speeds[i].picturesPerSecond.toFixed(2)} (${speeds[i].medianMs.toFixed(1)} ms)`);
      if (measured.length === 2) cells.push(`${(measured[0].speeds[i].picturesPerSecond / measured[1].speeds[i].picturesPerSecond).toFixed(2)}x`);
      lines.push(`| ${label} | ${clients} | ${cells.join(' | ')} |`);
    });
  }
  lines.push('', `${checks.rows.length - checks.failed} passed, ${checks.failed} failed, ${((performance.now() - begin) / 1000).toFixed(0)} s`);
  return `${lines.join('\n')}\n`;
}

function readOptions() {
  try {
    const flags = { device: { type: 'string', default: 'cuda:0' }, compare: { type: 'string' }, model: { type: 'string' }, seconds: { type: 'string', default: '3' }, out: { type: 'string' } };
    const { values, positionals } = parseArgs({ options: flags, allowPositionals: true });
    if (positionals.length > 1) throw new RangeError('one folder at most');
    const folder = resolve(positionals[0] ?? join(dirname(fileURLToPath(import.meta.url)), '..'));
    const seconds = Number(values.seconds);
    if (!(seconds > 0 && seconds <= 60)) throw new RangeError(`--seconds: more than 0 and at most 60, received ${values.seconds}`);
    const compare = values.compare ?? (values.device === 'cpu' ? 'none' : 'cpu');
    const model = resolve(values.model ?? join(folder, 'models', 'nextstep-emoji64'));
    return { folder, model, device: values.device, compare, seconds, out: resolve(values.out ?? join(folder, 'build', 'serve-check')) };
  } catch (error) {
    console.error(`gpu-serve-check: ${error.message}`);
    process.exit(2);
  }
}
