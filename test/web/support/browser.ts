import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';

const CANDIDATES = [process.env['CHROMIUM'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** This machine under a name that is neither localhost nor https: a browser gives pages there less, as it does to phones on the same network. */
export const PLAIN_HOST = 'playground.test';

/** The system's Chromium; nothing is downloaded. */
export function findChromium(): string | null {
  const found = CANDIDATES.find((path) => path !== undefined && path !== '' && existsSync(path)) ?? null;
  if (found === null) console.error('\n*** SKIPPED: browser tests need Chromium (Debian: apt-get install chromium, or CHROMIUM=/path) ***\n');
  return found;
}

export function launch(executablePath: string): Promise<Browser> {
  // Containers run tests as root, where Chromium's own sandbox does not start.
  return chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu', `--host-resolver-rules=MAP ${PLAIN_HOST} 127.0.0.1`] });
}
