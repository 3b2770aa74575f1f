import { afterEach, describe, expect, it } from 'vitest';
import { readNextStepManifest } from '../../src/model/manifest.js';
import { loadTokenizer, type PromptTokenizer } from '../../src/model/tokenizer.js';
import { writeModelFolder, type FolderOptions } from '../support/model-folder.js';

let remove: () => void = () => undefined;

afterEach(() => {
  remove();
});

function open(options: FolderOptions = {}): PromptTokenizer {
  const folder = writeModelFolder(options);
  remove = folder.remove;
  return loadTokenizer(readNextStepManifest(folder.directory));
}

const codes = (text: string): number[] => [...text].map((character) => character.charCodeAt(0));

describe('prompt construction (docs/nextstep.md 4, 5)', () => {
  it('finds control tokens anywhere in user text, the longest first', () => {
    const tokenizer = open();
    expect(tokenizer.findSpecialToken('a cat')).toBeNull();
    expect(tokenizer.findSpecialToken('a <|image_placeholder|> b')).toBe('<|image_placeholder|>');
    expect(tokenizer.findSpecialToken('x[PAD]')).toBe('[PAD]');
    // Not a token, only a marker of the reference pipeline.
    expect(tokenizer.findSpecialToken('<image>')).toBeNull();
  });

  it('appends the size prefix, height first, and boi', () => {
    const tokenizer = open();
    const caption = tokenizer.encodeCaption('a cat', 512)!;
    expect([...tokenizer.promptRow(caption, { height: 4, width: 12 })]).toEqual([...codes('a cat'), 129, ...codes('4*12'), 130]);
  });

  it('gives an empty prompt a row that is only the prefix', () => {
    const tokenizer = open();
    expect([...tokenizer.promptRow(tokenizer.encodeCaption('', 512)!, { height: 4, width: 4 })]).toEqual([129, 52, 42, 52, 130]);
  });

  it('adds no BOS unless the tokenizer has one, and then to captions only', () => {
    expect([...open().encodeCaption('a', 512)!]).toEqual([97]);
    remove();
    for (const bos of ['[PAD]', { content: '[PAD]' }]) {
      const withBos = open({ tokenizerConfig: { bos_token: bos } });
      expect([...withBos.encodeCaption('a', 512)!]).toEqual([128, 97]);
      expect([...withBos.promptRow(Int32Array.of(97), { height: 4, width: 4 })]).toEqual([97, 129, 52, 42, 52, 130]);
      remove();
    }
    remove = () => undefined;
  });

  it('counts tokens exactly at the limit and gives up early far beyond it', () => {
    const tokenizer = open();
    expect(tokenizer.encodeCaption('a'.repeat(512), 512)).toHaveLength(512);
    expect(tokenizer.encodeCaption('a'.repeat(513), 512)).toBeNull();
    expect(tokenizer.encodeCaption('a b '.repeat(8000), 512)).toBeNull();
  });

  it('refuses a tokenizer whose ids the model does not have', () => {
    const tokenizer = open({ config: { vocab_size: 100 } });
    expect(() => tokenizer.encodeCaption('z', 512)).toThrow(/model/);
  });
});
