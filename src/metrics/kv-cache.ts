import { Counter, Gauge, type Registry } from 'prom-client';
import type { SchedulerState } from '../worker/scheduler/state.js';

/** KV blocks and the prompt cache of one model on one worker: values the scheduler keeps anyway, read at scrape. */
export function watchKvCache(registry: Registry, model: string, worker: string, state: SchedulerState): void {
  const registers = [registry];
  new Gauge({
    name: 'ardiff_kv_cache_usage_ratio',
    help: 'Share of KV blocks in use, cached prompts included.',
    labelNames: ['model', 'worker'],
    registers,
    collect() {
      this.set({ model, worker }, state.pool.numUsed / state.pool.numBlocks);
    },
  });
  new Gauge({
    name: 'ardiff_kv_cache_blocks',
    help: 'KV blocks by state; reclaimable ones hold prompts nobody uses right now.',
    labelNames: ['model', 'worker', 'state'],
    registers,
    collect() {
      const reclaimable = state.cache.reclaimableBlocks();
      this.set({ model, worker, state: 'free' }, state.pool.numFree);
      this.set({ model, worker, state: 'reclaimable' }, reclaimable);
      this.set({ model, worker, state: 'used' }, state.pool.numUsed - reclaimable);
    },
  });
  const mirror = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      labelNames: ['model', 'worker'],
      registers,
      collect() {
        this.reset();
        this.inc({ model, worker }, read());
      },
    });
  };
  mirror('ardiff_preemptions_total', 'Sequences that gave up their blocks and recompute.', () => state.numPreemptions);
  mirror('ardiff_prefix_cache_queries_total', 'Prompt tokens looked up in the prompt cache.', () => state.cache.stats.queriedTokens);
  mirror('ardiff_prefix_cache_hits_total', 'Of those, tokens that were there.', () => state.cache.stats.hitTokens);
}
