import { readManifest, type ModelManifest } from './manifest.js';
import { loadTokenizer, type PromptTokenizer } from './tokenizer.js';

/** What the gateway knows of a model: enough to check a request and to turn its text into ids. No engine. */
export interface ServedModel {
  manifest: ModelManifest;
  tokenizer: PromptTokenizer;
  /** Unix seconds, for GET /v1/models. */
  created: number;
}

export function openModelFolder(directory: string, now: () => number = Date.now): ServedModel {
  const manifest = readManifest(directory);
  return { manifest, tokenizer: loadTokenizer(manifest), created: Math.floor(now() / 1000) };
}
