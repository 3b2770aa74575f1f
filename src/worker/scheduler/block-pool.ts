/**
 * Reference-counted KV blocks of one model. The pool only counts: what a block holds is known to the rows and
 * prompt-cache entries that reference it.
 *
 *   refCounts[b] = 0   free
 *                = 1   one owner, may be written in place
 *                > 1   shared, must be copied before a write
 */
export class BlockPool {
  readonly numBlocks: number;
  private readonly refCounts: Uint32Array;
  /** A stack; the block freed last is used next, while it is still warm in the processor's caches. */
  private readonly free: number[];

  constructor(numBlocks: number) {
    if (!Number.isInteger(numBlocks) || numBlocks < 1) throw new RangeError(`a pool needs blocks, got ${numBlocks}`);
    this.numBlocks = numBlocks;
    this.refCounts = new Uint32Array(numBlocks);
    this.free = Array.from({ length: numBlocks }, (_, i) => numBlocks - 1 - i);
  }

  get numFree(): number {
    return this.free.length;
  }

  get numUsed(): number {
    return this.numBlocks - this.free.length;
  }

  refCount(block: number): number {
    return this.refCounts[block] ?? 0;
  }

  isShared(block: number): boolean {
    return this.refCount(block) > 1;
  }

  /** Callers make room first (room.ts), so an empty pool here is a bug. */
  allocate(): number {
    const block = this.free.pop();
    if (block === undefined) throw new Error('block pool is empty: room must be made before allocating');
    this.refCounts[block] = 1;
    return block;
  }

  retain(block: number): void {
    if (this.refCount(block) === 0) throw new Error(`block ${block} is free and cannot be shared`);
    this.refCounts[block]! += 1;
  }

  /** Drops one reference; returns whether the block became free. */
  release(block: number): boolean {
    const count = this.refCount(block);
    if (count === 0) throw new Error(`block ${block} is released more often than it was taken`);
    this.refCounts[block] = count - 1;
    if (count > 1) return false;
    this.free.push(block);
    return true;
  }
}
