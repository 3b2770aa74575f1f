import type { BlockPool } from './block-pool.js';

/** KV blocks of one prompt row: positions [0, positions), the last block possibly only in part. */
interface CachedPrompt {
  blocks: readonly number[];
  positions: number;
}

export interface PromptCacheStats {
  /** Prompt tokens that rows asked the cache for. */
  queriedTokens: number;
  /** Of those, tokens whose KV was already there. */
  hitTokens: number;
}

/**
 * Prompts whose KV is kept for other rows: all pictures of a request have the same conditional prompt, and most
 * requests the same unconditional one. An entry covers all but the last prompt token, because every sequence
 * computes that one itself (it needs its hidden state). The cache holds one reference per block, so whoever
 * writes into its last, partly filled block copies it first.
 *
 * Least recently used entries go first; a Map iterates in insertion order and a hit is re-inserted.
 */
export class PromptCache {
  private readonly entries = new Map<string, CachedPrompt>();
  private queriedTokens = 0;
  private hitTokens = 0;

  constructor(private readonly pool: BlockPool) {}

  get size(): number {
    return this.entries.size;
  }

  get stats(): PromptCacheStats {
    return { queriedTokens: this.queriedTokens, hitTokens: this.hitTokens };
  }

  has(key: string): boolean {
    return this.entries.has(key);
  }

  /** Blocks of the entry that nobody else references: what evicting it would free. */
  reclaimableBlocks(exceptKeys: ReadonlySet<string> = new Set()): number {
    let count = 0;
    for (const [key, entry] of this.entries) {
      if (exceptKeys.has(key)) continue;
      for (const block of entry.blocks) if (!this.pool.isShared(block)) count += 1;
    }
    return count;
  }

  /** References to the blocks of the prompt, now also the caller's, or null. Counts one query of `promptTokens`. */
  attach(key: string, promptTokens: number): { blocks: number[]; positions: number } | null {
    this.queriedTokens += promptTokens;
    const entry = this.entries.get(key);
    if (entry === undefined) return null;
    this.entries.delete(key);
    this.entries.set(key, entry);
    for (const block of entry.blocks) this.pool.retain(block);
    this.hitTokens += entry.positions;
    return { blocks: [...entry.blocks], positions: entry.positions };
  }

  insert(key: string, blocks: readonly number[], positions: number): void {
    if (this.entries.has(key)) return;
    for (const block of blocks) this.pool.retain(block);
    this.entries.set(key, { blocks: [...blocks], positions });
  }

  /** Evicts the least recently used entry that frees a block; returns whether there was one. */
  evictReclaimable(): boolean {
    for (const [key, entry] of this.entries) {
      if (entry.blocks.some((block) => !this.pool.isShared(block))) {
        this.drop(key, entry);
        return true;
      }
    }
    return false;
  }

  /** Evicts the least recently used entry even if it frees nothing: its blocks may then be written in place. */
  evictOldest(): boolean {
    const first = this.entries.entries().next();
    if (first.done === true) return false;
    this.drop(first.value[0], first.value[1]);
    return true;
  }

  clear(): void {
    while (this.evictOldest());
  }

  private drop(key: string, entry: CachedPrompt): void {
    this.entries.delete(key);
    for (const block of entry.blocks) this.pool.release(block);
  }
}
