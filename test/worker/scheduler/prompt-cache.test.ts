import { beforeEach, describe, expect, it } from 'vitest';
import { BlockPool } from '../../../src/worker/scheduler/block-pool.js';
import { PromptCache } from '../../../src/worker/scheduler/prompt-cache.js';

describe('PromptCache', () => {
  let pool: BlockPool;
  let cache: PromptCache;

  /** An entry whose blocks only the cache still references. */
  function insertIdle(key: string, numBlocks = 1): number[] {
    const blocks = Array.from({ length: numBlocks }, () => pool.allocate());
    cache.insert(key, blocks, numBlocks * 16 - 1);
    for (const block of blocks) pool.release(block);
    return blocks;
  }

  beforeEach(() => {
    pool = new BlockPool(8);
    cache = new PromptCache(pool);
  });

  it('misses what it does not hold, and counts both', () => {
    expect(cache.attach('a', 10)).toBeNull();
    insertIdle('a', 1);
    expect(cache.attach('a', 16)?.positions).toBe(15);
    expect(cache.stats).toEqual({ queriedTokens: 26, hitTokens: 15 });
  });

  it('shares blocks with whoever attaches', () => {
    const [block] = insertIdle('a');
    cache.attach('a', 16);
    expect(pool.refCount(block!)).toBe(2);
    expect(cache.reclaimableBlocks()).toBe(0);
    expect(cache.evictReclaimable()).toBe(false);
  });

  it('evicts the least recently used entry first', () => {
    insertIdle('a');
    insertIdle('b');
    const attached = cache.attach('a', 16)!;
    for (const block of attached.blocks) pool.release(block);
    expect(cache.evictReclaimable()).toBe(true);
    expect(cache.has('b')).toBe(false);
    expect(cache.has('a')).toBe(true);
  });

  it('passes over entries in use while something else can go', () => {
    insertIdle('old');
    cache.attach('old', 16);
    insertIdle('other');
    cache.attach('other', 16)!.blocks.forEach((block) => pool.release(block));
    expect(cache.evictReclaimable()).toBe(true);
    expect(cache.has('old')).toBe(true);
    expect(cache.has('other')).toBe(false);
  });

  it('keeps the first of two equal prompts and does not leak the second', () => {
    insertIdle('a');
    insertIdle('a');
    expect(pool.numUsed).toBe(1);
    cache.clear();
    expect(pool.numUsed).toBe(0);
  });

  it('excludes given keys from what can be reclaimed', () => {
    insertIdle('a', 2);
    insertIdle('b', 3);
    expect(cache.reclaimableBlocks()).toBe(5);
    expect(cache.reclaimableBlocks(new Set(['b']))).toBe(2);
  });
});
