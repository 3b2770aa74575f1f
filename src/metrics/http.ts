import { Histogram, type Registry } from 'prom-client';
import { REQUEST_BUCKETS } from './buckets.js';

export interface HttpMetrics {
  /** `route` is the template, never the URL: labels must not grow with what clients type. */
  observe(method: string, route: string, status: number, seconds: number): void;
}

export function createHttpMetrics(registry: Registry): HttpMetrics {
  const duration = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Arrival to last byte, by route template.',
    labelNames: ['method', 'route', 'status'],
    buckets: REQUEST_BUCKETS,
    registers: [registry],
  });
  return {
    observe: (method, route, status, seconds) => {
      duration.observe({ method, route, status: String(status) }, seconds);
    },
  };
}
