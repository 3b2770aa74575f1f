import type { FastifyInstance } from 'fastify';
import type { WorkerStatus } from '../jobs/supervisor.js';
import type { GatewayDeps } from './deps.js';

/** Liveness, readiness, metrics: for those who run the server. */
export function opsRoutes(app: FastifyInstance, { serving, metrics }: GatewayDeps, done: () => void): void {
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    void reply.status(serving.status === 'ready' ? 200 : 503);
    return { status: serving.status, models: serving.models.map((model) => model.manifest.id), ...serving.engine, workers: serving.workers.map(describeWorker) };
  });
  app.get('/metrics', async (_request, reply) => {
    void reply.type(metrics.registry.contentType);
    return metrics.render();
  });
  done();
}

function describeWorker({ name, status, loaded, device }: WorkerStatus): object {
  return { name, status, loaded: Number(loaded.toFixed(3)), device: device === null ? null : { id: device.id, name: device.name, memory_bytes: device.memoryBytes, reason: device.reason } };
}
