import { connect, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';

let gateway: Gateway;

beforeAll(async () => {
  gateway = await createGateway();
});

afterAll(async () => {
  await gateway.close();
});

describe('errors outside the routes', () => {
  it.each([
    ['GET', '/nowhere', 404, 'not_found'],
    ['GET', '/v1/models/none', 404, 'model_not_found'],
    ['DELETE', '/v1/models/tiny', 405, 'method_not_allowed'],
    ['POST', '/metrics', 405, 'method_not_allowed'],
    ['GET', '/%', 400, 'invalid_value'],
  ] as const)('%s %s → %i %s', async (method, url, status, code) => {
    const reply = await gateway.app.inject({ method, url });
    expect(reply.statusCode).toBe(status);
    expect(reply.headers['content-type']).toMatch(/^application\/json/);
    expect(reply.json()).toMatchObject({ error: { code, type: 'invalid_request_error', message: expect.any(String) } });
  });

  it('answers bytes that are no HTTP with the envelope', async () => {
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = gateway.app.server.address() as AddressInfo;
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect(port, '127.0.0.1', () => socket.write('NOT HTTP\r\n\r\n'));
      socket.on('data', (chunk) => (text += String(chunk)));
      socket.on('close', () => { resolve(text); });
    });
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!)).toMatchObject({ error: { code: 'invalid_value' } });
  });
});

describe('models and operations', () => {
  it('describes the model and what it draws', async () => {
    const list = await gateway.app.inject('/v1/models');
    expect(list.json()).toMatchObject({ object: 'list', data: [{ id: 'tiny', object: 'model', owned_by: 'fast-ardiff' }] });
    expect((await gateway.app.inject('/v1/models/tiny')).json()).toMatchObject({
      prompt_mode: 'text',
      sizes: ['64x64', '96x32', '128x128'],
      default_size: '64x64',
      row_previews: false,
      devices: [{ id: 'reference', name: 'processor', memory_bytes: 2 ** 30 }],
      max_prompt_tokens: 512,
      defaults: { num_inference_steps: 8, guidance_scale: 2.5 },
      quality_presets: { low: { num_inference_steps: 4 } },
    });
  });

  it('is alive always and ready only when it can draw', async () => {
    for (const status of ['loading', 'ready', 'draining'] as const) {
      gateway.serving.status = status;
      expect((await gateway.app.inject('/healthz')).statusCode).toBe(200);
      const ready = await gateway.app.inject('/readyz');
      expect([ready.statusCode, ready.json<{ status: string }>().status]).toEqual([status === 'ready' ? 200 : 503, status]);
    }
    gateway.serving.status = 'ready';
    expect((await gateway.app.inject('/readyz')).json()).toEqual({
      status: 'ready', models: ['tiny'], backend: 'reference', device: 'cpu', dtype: 'float32', isa: 'none', libraries: 'none',
      workers: [{ name: 'worker-0', status: 'ready', loaded: 1, device: { id: 'reference', name: 'processor', memory_bytes: 2 ** 30, reason: 'asked for' } }],
    });
  });

  it('serves the page with a policy that allows nothing inline and nothing from elsewhere', async () => {
    const page = await gateway.app.inject('/');
    expect(page.headers['content-type']).toMatch(/^text\/html/);
    const policy = String(page.headers['content-security-policy']);
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(page.headers['cache-control']).toBe('no-cache');
    expect(page.body).toContain('<!doctype html>');
  });

  it('lets browsers keep files with a hash in their name, and revalidate the entry', async () => {
    const script = await gateway.app.inject('/assets/index-abc123.js');
    expect(script.headers['content-type']).toMatch(/^text\/javascript/);
    expect(script.headers['cache-control']).toContain('immutable');
    const again = await gateway.app.inject({ url: '/', headers: { 'if-none-match': String((await gateway.app.inject('/')).headers.etag) } });
    expect([again.statusCode, again.body]).toEqual([304, '']);
    for (const url of ['/assets/other.js', '/assets/..%2f..%2fpackage.json', '/index.html']) {
      expect((await gateway.app.inject(url)).statusCode).toBe(404);
    }
  });
});
