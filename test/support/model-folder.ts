import { mkdtempSync, writeFileSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SPECIALS = ['[PAD]', '<|image_area|>', '<|begin_of_image|>', '<|end_of_image|>', '<|image_placeholder|>'];

/** The JSON files of a model folder, without weights: a character-level tokenizer and the tiny golden dimensions. */
export interface FolderOptions {
  config?: Record<string, unknown>;
  vae?: Record<string, unknown>;
  sampling?: Record<string, unknown> | null;
  tokenizerConfig?: Record<string, unknown>;
  /** preview.json; absent: the folder has none. */
  preview?: unknown;
}

/** Grey by the first latent channel: R, G and B = 0.25 + z0 / 2. */
export const PREVIEW = { latent_rgb: [[0.5, 0, 0, 0], [0.5, 0, 0, 0], [0.5, 0, 0, 0]], bias: [0.25, 0.25, 0.25], range: 'RGB in 0..1' };

export function tokenizerJson(): Record<string, unknown> {
  const vocab = Object.fromEntries(Array.from({ length: 128 }, (_, code) => [String.fromCharCode(code), code]));
  return {
    version: '1.0',
    added_tokens: SPECIALS.map((content, i) => ({ id: 128 + i, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true })),
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: { type: 'BPE', vocab, merges: [] },
  };
}

/** Writes the folder into a fresh temporary directory; `remove` deletes it. */
export function writeModelFolder(options: FolderOptions = {}): { directory: string; remove: () => void } {
  const root = mkdtempSync(join(tmpdir(), 'ardiff-model-'));
  const directory = join(root, 'tiny');
  mkdirSync(join(directory, 'vae'), { recursive: true });
  const write = (name: string, value: unknown): void => {
    writeFileSync(join(directory, name), JSON.stringify(value));
  };
  write('config.json', { vocab_size: 133, boi: 130, image_placeholder_id: 132, latent_patch_size: 2, latent_channels: 4, max_position_embeddings: 4096, ...options.config });
  write('vae/config.json', { ch_mult: [1, 2, 2, 2], scaling_factor: 1.25, shift_factor: 0.125, ...options.vae });
  write('tokenizer.json', tokenizerJson());
  if (options.preview !== undefined) write('preview.json', options.preview);
  if (options.tokenizerConfig !== undefined) write('tokenizer_config.json', options.tokenizerConfig);
  if (options.sampling !== null) {
    write('sampling.json', { sampler: 'B', timesteps: 8, guidance_scale: 2.5, use_norm: true, sizes: ['64x64', '96x32', '128x128'], ...options.sampling });
  }
  return { directory, remove: () => { rmSync(root, { recursive: true }); } };
}
