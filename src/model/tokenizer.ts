import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { InvalidModelFile, readJsonFile, readObject } from './json-file.js';
import type { NextStepManifest } from './nextstep-manifest.js';
import type { Grid } from './sizes.js';

/** Text to prompt rows, as docs/nextstep.md 4 and 5 lay them out. */
export interface PromptTokenizer {
  /** The first special-token string inside the text, or null. Such text would turn into control ids. */
  findSpecialToken(text: string): string | null;
  /** Caption ids, with the BOS where the tokenizer has one; null: more than `maxTokens`. */
  encodeCaption(text: string, maxTokens: number): Int32Array | null;
  /** Caption, size prefix, boi: the whole row of one guidance branch. */
  promptRow(caption: Int32Array, grid: Grid): Int32Array;
}

const IMAGE_AREA = '<|image_area|>';

export function loadTokenizer(manifest: NextStepManifest): PromptTokenizer {
  const path = join(manifest.directory, 'tokenizer.json');
  const value = readJsonFile(path);
  if (value === undefined) throw new InvalidModelFile(path, 'is missing');
  const json = readObject(path, value);
  const config = readJsonFile(join(manifest.directory, 'tokenizer_config.json')) ?? {};
  const tokenizer = build(path, json, config);
  const bos = bosToken(config);
  const specials = specialTokens(tokenizer);
  if (!specials.includes(IMAGE_AREA)) throw new InvalidModelFile(path, `has no added token ${IMAGE_AREA}`);
  const bosId = bos === null ? undefined : tokenizer.token_to_id(bos);

  const encode = (text: string): number[] => {
    const ids: number[] = tokenizer.encode(text).ids;
    const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= manifest.vocabSize);
    if (wrong !== undefined) throw new InvalidModelFile(path, `gives id ${wrong}, the model has ${manifest.vocabSize}`);
    return ids;
  };
  return {
    findSpecialToken: (text) => specials.find((token) => text.includes(token)) ?? null,
    // The reference puts the BOS string in front of every caption if there is one; the released folders have none.
    encodeCaption: (text, maxTokens) => {
      if (isHopeless(text, maxTokens, encode)) return null;
      const ids = encode(bos === null ? text : bos + text);
      return ids.length > maxTokens ? null : Int32Array.from(ids);
    },
    promptRow: (caption, grid) => {
      const area = encode(`${IMAGE_AREA}${grid.height}*${grid.width}`);
      // A tokenizer that adds a BOS by itself would put one in the middle of the row.
      if (bosId !== undefined && area[0] === bosId) area.shift();
      return Int32Array.from([...caption, ...area, manifest.boiTokenId]);
    },
  };
}

/**
 * Tokenising 32,000 characters takes 200 ms of event loop; a prompt that is far too long shows it in its first
 * part. The slack covers a word cut in two by the end of that part.
 */
function isHopeless(text: string, maxTokens: number, encode: (text: string) => number[]): boolean {
  const slack = 64;
  for (let length = 2048; length < text.length; length *= 2) {
    if (encode(text.slice(0, length)).length > maxTokens + slack) return true;
  }
  return false;
}

function build(path: string, json: object, config: unknown): Tokenizer {
  try {
    return new Tokenizer(json, readObject(path, config));
  } catch (error) {
    throw new InvalidModelFile(path, `is not a tokenizer this server can read: ${String(error)}`);
  }
}

/** Older files write the token as an object with its text under `content`. */
function bosToken(config: unknown): string | null {
  const bos = typeof config === 'object' && config !== null && 'bos_token' in config ? config.bos_token : null;
  if (typeof bos === 'string') return bos;
  const content = typeof bos === 'object' && bos !== null && 'content' in bos ? bos.content : null;
  return typeof content === 'string' ? content : null;
}

/** Longest first, so that the message names what the user wrote and not a part of it. */
function specialTokens(tokenizer: Tokenizer): string[] {
  const tokens = [...tokenizer.get_added_tokens_decoder().values()].map((token) => token.content);
  return tokens.sort((a, b) => b.length - a.length);
}
