import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from './engine/native.js';

/** The package's version: said once, in package.json. */
export const VERSION = readVersion();

/** What was built: ARDIFF_COMMIT where a container sets it, else the checked-out commit, else `unknown`. */
export const COMMIT = process.env.ARDIFF_COMMIT ?? readCommit();

function readVersion(): string {
  const json: unknown = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8'));
  return typeof json === 'object' && json !== null && 'version' in json ? String(json.version) : 'unknown';
}

/** From the files of the clone, without git: HEAD holds a commit or names a file that does. Packed refs are not looked into. */
function readCommit(): string {
  try {
    const git = join(PACKAGE_ROOT, '.git');
    const head = readFileSync(join(git, 'HEAD'), 'utf8').trim();
    const commit = head.startsWith('ref: ') ? readFileSync(join(git, head.slice('ref: '.length)), 'utf8').trim() : head;
    return /^[0-9a-f]{40}$/.test(commit) ? commit.slice(0, 12) : 'unknown';
  } catch {
    // No clone (a package, an image) or one with a layout of its own.
    return 'unknown';
  }
}
