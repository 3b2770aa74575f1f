import { describe, expect, it } from 'vitest';
import { BlockPool } from '../../../src/worker/scheduler/block-pool.js';

describe('BlockPool', () => {
  it('refuses a pool without blocks', () => {
    expect(() => new BlockPool(0)).toThrow(RangeError);
    expect(() => new BlockPool(1.5)).toThrow(RangeError);
  });

  it('refuses to allocate from an empty pool', () => {
    const pool = new BlockPool(1);
    pool.allocate();
    expect(() => pool.allocate()).toThrow(/empty/);
  });

  it('refuses to release or share a free block', () => {
    const pool = new BlockPool(2);
    const block = pool.allocate();
    pool.release(block);
    expect(() => pool.release(block)).toThrow(/more often/);
    expect(() => {
      pool.retain(block);
    }).toThrow(/free/);
    expect(() => pool.release(99)).toThrow(/more often/);
  });

  it('frees a shared block with its last reference', () => {
    const pool = new BlockPool(2);
    const block = pool.allocate();
    pool.retain(block);
    expect(pool.isShared(block)).toBe(true);
    expect(pool.release(block)).toBe(false);
    expect(pool.isShared(block)).toBe(false);
    expect(pool.numUsed).toBe(1);
    expect(pool.release(block)).toBe(true);
    expect(pool.numFree).toBe(2);
  });

  it('hands out every block once', () => {
    const pool = new BlockPool(5);
    expect(new Set(Array.from({ length: 5 }, () => pool.allocate())).size).toBe(5);
    expect(pool.numFree).toBe(0);
  });
});
