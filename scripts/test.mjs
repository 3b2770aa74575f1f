// `npm test`: vitest, then the native tests; the last line sums both. Arguments go to vitest alone:
// `npm test -- test/gateway` runs just those files.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { countNative } from './test-counts.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const args = process.argv.slice(2);
const run = (command, ...rest) => spawnSync(command, rest, { cwd: root, stdio: 'inherit' }).status ?? 1;

// The native tests are compiled beside vitest, which mostly waits for its servers; niced, so that it need not wait for the compiler.
const nativeBuild = args.length === 0 ? spawn('nice', ['-n', '19', 'bash', 'scripts/test-native.sh', '--build-only'], { cwd: root, stdio: 'inherit' }) : null;
const nativeBuilt = nativeBuild && once(nativeBuild, 'exit');

const vitestReport = join(root, 'build', 'vitest.json');
mkdirSync(dirname(vitestReport), { recursive: true });
rmSync(vitestReport, { force: true });
const vitest = run('npx', '--no-install', 'vitest', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${vitestReport}`, ...args);
const totals = [countVitest(vitest)];
if (nativeBuilt) {
  await nativeBuilt; // should it have failed, the next line fails alike and is counted
  totals.push(countNative(join(root, 'build'), run('bash', 'scripts/test-native.sh')));
}

const sum = (key) => totals.reduce((total, part) => total + part[key], 0);
for (const { name, passed, failed, skipped } of totals) console.log(`${name}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
console.log(`${sum('passed')} passed, ${sum('failed')} failed`);
process.exit(sum('failed') === 0 ? 0 : 1);

/** A failing exit status with no failed test (a crash, a broken import) counts as one failure. */
function countVitest(status) {
  const report = existsSync(vitestReport) ? JSON.parse(readFileSync(vitestReport, 'utf8')) : null;
  const failed = report?.numFailedTests ?? 0;
  return {
    name: 'vitest',
    passed: report?.numPassedTests ?? 0,
    failed: status === 0 ? failed : Math.max(failed, 1),
    skipped: report?.numPendingTests ?? 0,
  };
}
