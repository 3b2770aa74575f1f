import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../src/engine/native.js';

export const NO_PYTHON = 'no Python with PyTorch was found (PYTHON, .venv/bin/python, python3)';

/** An interpreter that has PyTorch; null: there is none. */
export function findPython(): string | null {
  const candidates = [process.env['PYTHON'], join(PACKAGE_ROOT, '.venv', 'bin', 'python'), 'python3'];
  for (const candidate of candidates) {
    if (candidate === undefined || (candidate.includes('/') && !existsSync(candidate))) continue;
    try {
      execFileSync(candidate, ['-c', 'import torch'], { stdio: 'ignore' });
      return candidate;
    } catch {
      // The next one may have it.
    }
  }
  return null;
}
