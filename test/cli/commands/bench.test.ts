import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { report } from '../../../src/cli/commands/bench.js';
import { createGateway } from '../../support/gateway-harness.js';
import { runCli } from '../../support/terminal.js';

describe('bench --url', () => {
  it('sends what it says, and one ahead', async () => {
    const gateway = await createGateway();
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const url = `http://127.0.0.1:${(gateway.app.server.address() as AddressInfo).port}`;
    const { status, out, err } = await runCli(['bench', '--url', url, '--requests', '10', '--concurrency', '3', '--steps', '2', '--prompt', 'x']);
    expect([status, err.split('\n').at(-2)]).toEqual([0, 'requests 100 %']);
    expect(out).toMatch(/^10 pictures in [\d.]+ s, 3 at once: [\d.]+ pictures\/s\nlatency s: p50 [\d.]+, p95 [\d.]+, p99 [\d.]+, max [\d.]+\n$/);
    expect(await gateway.metric('ardiff_requests_total{outcome="ok"}')).toBe(11);
    await gateway.close();
  });

  it('counts refusals and says so', async () => {
    const gateway = await createGateway({ queue: 1, maxBatch: 1, stepMs: 5 });
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const url = `http://127.0.0.1:${(gateway.app.server.address() as AddressInfo).port}`;
    const { status, out } = await runCli(['bench', '--url', url, '--requests', '12', '--concurrency', '6']);
    expect(status).toBe(1);
    expect(out).toMatch(/^\d+ failed: .*\(queue_full\)$/m);
    await gateway.close();
  });

  it('reports latencies that somebody had', () => {
    const hundred = Array.from({ length: 100 }, (_, i) => (100 - i) / 1000);
    expect(report(hundred, 2, 4)).toBe('100 pictures in 2.00 s, 4 at once: 50.00 pictures/s\nlatency s: p50 0.050, p95 0.095, p99 0.099, max 0.100\n');
    expect(report([], 2, 4)).toBe('no picture was drawn\n');
  });
});
