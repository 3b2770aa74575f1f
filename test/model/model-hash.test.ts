import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { differingFiles, hashModel } from '../../src/model/model-hash.js';
import { tinySafetensors } from '../support/accelerator-folder.js';
import { writeModelFolder } from '../support/model-folder.js';

let directory: string;
let remove: () => void;

beforeEach(() => {
  ({ directory, remove } = writeModelFolder());
});

afterEach(() => {
  remove();
});

const write = (name: string, bytes: Buffer | string): void => {
  writeFileSync(join(directory, name), bytes);
};

/** Two tensors of 3000 numbers, so that the edges of a tensor do not meet. */
const numbers = (change: Record<number, number> = {}): number[] => Object.assign(Array.from({ length: 3000 }, (_, i) => i), change) as number[];

describe('hashModel', () => {
  it('depends on the edges of every tensor, on the header and on the config, and on nothing else', () => {
    write('model.safetensors', tinySafetensors(numbers()));
    const { hash } = hashModel(directory);
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    const changed = (change: Record<number, number>): string => {
      write('model.safetensors', tinySafetensors(numbers(change)));
      return hashModel(directory).hash;
    };
    expect(changed({})).toBe(hash);
    // 1,024 float32 are 4 KiB.
    for (const at of [0, 1023, 3000 - 1024, 2999]) expect(changed({ [at]: -1 })).not.toBe(hash);
    expect(changed({ 1500: -1 })).toBe(hash);
    write('model.safetensors', tinySafetensors(numbers(), 'b'));
    expect(hashModel(directory).hash).not.toBe(hash);
    write('model.safetensors', tinySafetensors(numbers()));
    write('fixtures.safetensors', tinySafetensors([1]));
    expect(hashModel(directory).hash).toBe(hash);
    appendFileSync(join(directory, 'config.json'), ' ');
    expect(hashModel(directory).hash).not.toBe(hash);
  });

  it('reads shards by their index, whatever their order in it', () => {
    write('model-1.safetensors', tinySafetensors([1], 'a'));
    write('model-2.safetensors', tinySafetensors([2], 'b'));
    write('model.safetensors.index.json', JSON.stringify({ weight_map: { b: 'model-2.safetensors', a: 'model-1.safetensors' } }));
    const { files, hash } = hashModel(directory);
    expect(Object.keys(files)).toEqual(['config.json', 'model-1.safetensors', 'model-2.safetensors']);
    write('model.safetensors.index.json', JSON.stringify({ weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } }));
    expect(hashModel(directory).hash).toBe(hash);
    write('model.safetensors.index.json', JSON.stringify({ weight_map: { a: '../model-1.safetensors' } }));
    expect(() => hashModel(directory)).toThrow(/files of its folder/);
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['a header that is longer than the file', Buffer.from([255, 0, 0, 0, 0, 0, 0, 0, 123])],
    ['a header that is not JSON', Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{]')])],
    ['a tensor that ends behind the file', tinySafetensors([1, 2, 3]).subarray(0, -4)],
  ])('refuses %s', (_what, bytes) => {
    write('model.safetensors', bytes);
    expect(() => hashModel(directory)).toThrow(/model\.safetensors/);
  });
});

describe('differingFiles', () => {
  it('names what differs and what only one side has', () => {
    expect(differingFiles({ a: '1', b: '2', c: '3' }, { a: '1', b: '4', d: '5' })).toEqual(['b', 'c', 'd']);
  });
});
