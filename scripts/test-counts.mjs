// Counts of one native test run, from the gtest reports it left: `node scripts/test-counts.mjs BUILD_DIR EXIT_STATUS`
// prints "N passed, N failed" and exits non-zero if any failed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** A failing exit status without a failed test (a crash, a broken build) counts as one failure. */
export function countNative(build, status) {
  const reports = join(build, 'reports');
  const total = { name: 'native', passed: 0, failed: 0, skipped: 0 };
  for (const file of existsSync(reports) ? readdirSync(reports) : []) {
    for (const suite of JSON.parse(readFileSync(join(reports, file), 'utf8')).testsuites) {
      for (const test of suite.testsuite) {
        if (test.failures !== undefined) total.failed += 1;
        else if (test.result === 'SKIPPED' || test.status === 'NOTRUN') total.skipped += 1;
        else total.passed += 1;
      }
    }
  }
  if (status !== 0) total.failed = Math.max(total.failed, 1);
  return total;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { passed, failed } = countNative(process.argv[2], Number(process.argv[3]));
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
