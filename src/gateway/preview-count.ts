import type { JobPreview } from '../jobs/job.js';
import type { PreviewMetrics, PreviewTransport } from '../metrics/previews.js';

/**
 * Counts the previews that one watcher got, and those that it did not: a newer one came before the socket had taken
 * them. `elapsedSeconds`: since its request arrived.
 */
export function previewCounter(metrics: PreviewMetrics, transport: PreviewTransport, model: string, elapsedSeconds: () => number): (preview: JobPreview) => void {
  const expected = new Map<string, number>();
  return ({ image, kind, index }) => {
    const key = `${kind} ${image}`;
    if (expected.size === 0) metrics.first(model, transport, elapsedSeconds());
    for (let missed = expected.get(key) ?? index; missed < index; missed += 1) metrics.dropped(transport);
    metrics.sent(transport);
    expected.set(key, index + 1);
  };
}
