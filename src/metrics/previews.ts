import { Counter, Histogram, type Registry } from 'prom-client';
import { REQUEST_BUCKETS } from './buckets.js';

/** How a client watches: server-sent events or a WebSocket. */
export type PreviewTransport = 'sse' | 'ws';

/** Previews on their way out. What drawing them costs is the worker's: `ardiff_preview_seconds_total`. */
export interface PreviewMetrics {
  sent(transport: PreviewTransport): void;
  /** Made, but a newer one or a slow reader made it worthless. */
  dropped(transport: PreviewTransport): void;
  /** The first of a request: seconds since the request arrived. */
  first(model: string, transport: PreviewTransport, seconds: number): void;
}

export function createPreviewMetrics(registry: Registry): PreviewMetrics {
  const registers = [registry];
  const previews = new Counter({
    name: 'ardiff_previews_total',
    help: 'Previews and partial images for clients; dropped: replaced by a newer one before a slow reader took it.',
    labelNames: ['transport', 'result'],
    registers,
  });
  for (const transport of ['sse', 'ws'] as const) for (const result of ['sent', 'dropped']) previews.inc({ transport, result }, 0);
  const first = new Histogram({
    name: 'ardiff_time_to_first_preview_seconds',
    help: 'Arrival of a request to its first preview or partial image.',
    labelNames: ['model', 'transport'],
    buckets: REQUEST_BUCKETS,
    registers,
  });
  return {
    sent: (transport) => {
      previews.inc({ transport, result: 'sent' });
    },
    dropped: (transport) => {
      previews.inc({ transport, result: 'dropped' });
    },
    first: (model, transport, seconds) => {
      first.observe({ model, transport }, seconds);
    },
  };
}
