import { Registry, type MetricObjectWithValues, type MetricValue } from 'prom-client';

/** Metrics of another process, as `registry.getMetricsAsJSON()` gives them: plain data, fit for IPC. */
export type MetricsSnapshot = MetricObjectWithValues<MetricValue<string>>[];

/** Reads a snapshot; may take as long as it likes, see `render`. */
export type MetricsSource = () => Promise<MetricsSnapshot>;

/** A scrape that waits for a hung worker would lose the metrics that tell of it. */
const SOURCE_LIMIT_MS = 1000;

/**
 * One exposition of this registry and of all sources. What a source does not answer in time is left out of this
 * scrape: `ardiff_worker_up` says why. Series of different processes differ in a label (`worker`), so merging is
 * putting the values of equal names under one header.
 */
export async function render(registry: Registry, sources: Iterable<MetricsSource>): Promise<string> {
  const answers = await Promise.all([...sources].map((source) => withinLimit(source)));
  if (answers.length === 0) return registry.metrics();
  return merge([await registry.getMetricsAsJSON(), ...answers]).metrics();
}

export function merge(snapshots: readonly MetricsSnapshot[]): Registry {
  const byName = new Map<string, MetricObjectWithValues<MetricValue<string>>>();
  for (const metric of snapshots.flat()) {
    const known = byName.get(metric.name);
    byName.set(metric.name, known === undefined ? metric : { ...known, values: [...known.values, ...metric.values] });
  }
  const merged = new Registry();
  // prom-client's own cluster registry registers its aggregates the same way: an object with `get` is a metric.
  for (const metric of byName.values()) merged.registerMetric({ ...metric, get: async () => metric } as never);
  return merged;
}

async function withinLimit(source: MetricsSource): Promise<MetricsSnapshot> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<MetricsSnapshot>((resolve) => {
    timer = setTimeout(() => { resolve([]); }, SOURCE_LIMIT_MS);
  });
  // A worker that dies while it is asked is no failed scrape.
  const answer = source().catch((): MetricsSnapshot => []);
  return Promise.race([answer, limit]).finally(() => { clearTimeout(timer); });
}
