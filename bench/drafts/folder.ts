import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ACCELERATOR_FOLDER } from '../../src/model/accelerator.js';

/** The model's accelerator with another draft model in it, in a folder that is there as long as `use` runs. */
export async function withAcceleratorOf(directory: string, draft: string, use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ardiff-draft-'));
  try {
    copyFileSync(draft, join(folder, 'draft.safetensors'));
    copyFileSync(join(directory, ACCELERATOR_FOLDER, 'few_step.safetensors'), join(folder, 'few_step.safetensors'));
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
