import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const CLASSES = [
  { index: 0, name: 'red apple', synonyms: ['apple'], group: 'food' },
  { index: 1, name: 'crane', synonyms: ['construction machine'], synset: 'n03126707' },
  { index: 2, name: 'crane', synonyms: ['bird'], synset: 'n02012849' },
  { index: 3, name: 'dog' },
];

/** The JSON files of a folder whose model draws classes: 64 px, 8x8 latent pixels, four passes. No weights. */
export interface ClassFolderOptions {
  config?: Record<string, unknown>;
  sampling?: Record<string, unknown>;
  /** classes.json; null: the folder has none. */
  classes?: Record<string, unknown> | null;
}

/** Writes the folder into a fresh temporary directory; `remove` deletes it. */
export function writeClassFolder(options: ClassFolderOptions = {}): { directory: string; remove: () => void } {
  const root = mkdtempSync(join(tmpdir(), 'ardiff-classes-'));
  const directory = join(root, 'zoo');
  mkdirSync(directory);
  const write = (name: string, value: unknown): void => {
    writeFileSync(join(directory, name), JSON.stringify(value));
  };
  write('config.json', {
    architecture: 'transdiff-mrar',
    image_size: 64,
    width: 32,
    num_heads: 4,
    transformer_blocks: 1,
    diffusion_blocks: 1,
    num_classes: CLASSES.length,
    buffer_size: 16,
    vae_ch_mult: [1, 1, 2, 2],
    sampling: { steps: 20, cfg: 1.3, scale_0: 0.9, scale_1: 0.95 },
    ...options.config,
  });
  if (options.sampling !== undefined) write('sampling.json', options.sampling);
  if (options.classes !== null) write('classes.json', options.classes ?? { version: 1, classes: CLASSES, default_prompt_examples: ['dog', 'red apple'] });
  return { directory, remove: () => { rmSync(root, { recursive: true }); } };
}
