import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { BackendName } from '../src/engine/native-types.js';
import { benchBandwidth } from './bandwidth.js';
import { openBench, type Bench } from './context.js';
import { benchPytorch } from './pytorch.js';
import { describeMachine, printPart, saveParts, type PartReport } from './report.js';
import { benchOverhead, benchReady, benchThroughput } from './serving.js';
import { benchTransDiff } from './transdiff.js';
import { runScript } from './run-script.js';

const PARTS: Readonly<Record<string, { letter: string; run: (bench: Bench) => Promise<PartReport> }>> = {
  pytorch: { letter: 'a', run: benchPytorch },
  bandwidth: { letter: 'b', run: benchBandwidth },
  overhead: { letter: 'c', run: benchOverhead },
  throughput: { letter: 'd', run: benchThroughput },
  ready: { letter: 'e', run: benchReady },
  transdiff: { letter: 'f', run: benchTransDiff },
};

const USAGE = `Usage: npm run bench -- [parts] [flags]
Parts: ${Object.entries(PARTS).map(([name, { letter }]) => `${letter} or ${name}`).join(', ')}; none: all
Part f writes 1.4 GB of random weights under build/bench and removes them; it wants 12 GB of memory and some minutes, and has models of its own.
  --rounds N       rounds per figure (default 7)
  --model DIR      model folder (default: the bundled demo model)
  --backend NAME   cpu or reference (default cpu)
  --threads N      compute threads (default 0: one per physical core)
  --no-save        print only; leave bench/results/ alone`;

function selected(names: readonly string[]): string[] {
  if (names.length === 0) return Object.keys(PARTS);
  return names.map((given) => {
    const found = Object.entries(PARTS).find(([name, { letter }]) => given === name || given === letter);
    if (found === undefined) throw new Error(`unknown part ${JSON.stringify(given)}\n${USAGE}`);
    return found[0];
  });
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '7' },
      model: { type: 'string', default: join(PACKAGE_ROOT, 'models', 'nextstep-emoji64') },
      backend: { type: 'string', default: 'cpu' },
      threads: { type: 'string', default: '0' },
      'no-save': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const names = selected(positionals);
  const bench = openBench({
    modelDirectory: values.model,
    backend: values.backend as BackendName,
    threads: Number(values.threads),
    rounds: Number(values.rounds),
  });
  const machine = describeMachine(bench.info);
  console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.isa}, ${bench.info.dtype}, ${bench.info.threads} threads, Node ${machine.node}, ${machine.libraries}`);
  const reports = new Map<string, PartReport>();
  for (const name of names) {
    const report = await PARTS[name]!.run(bench);
    printPart(name, report);
    reports.set(name, report);
  }
  if (values['no-save']) return;
  console.log(`\nwrote ${relative(PACKAGE_ROOT, saveParts(machine, reports))}`);
}

await runScript(main);
