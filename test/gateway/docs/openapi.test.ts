import SwaggerParser from '@apidevtools/swagger-parser';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { OpenAPIV3_1 } from 'openapi-types';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OPERATIONS } from '../../../src/gateway/docs/operations.js';
import { ImagesRequestSchema } from '../../../src/gateway/schemas.js';
import { createGateway, type Gateway } from '../../support/gateway-harness.js';

let gateway: Gateway;
let document: OpenAPIV3_1.Document;

beforeAll(async () => {
  gateway = await createGateway();
  document = (await gateway.app.inject('/docs/openapi.json')).json();
});

afterAll(async () => {
  await gateway.close();
});

const ajv = new Ajv2020({ strict: false, logger: false });

/** Checks a body against what the document says of this answer; unknown keys count as wrong. */
function expectDocumented(path: string, method: 'get' | 'post', status: number, type: string, body: unknown): void {
  const answer = document.paths![path]![method]!.responses![status] as OpenAPIV3_1.ResponseObject | undefined;
  const schema = answer?.content?.[type]?.schema;
  expect(schema, `${method} ${path} ${status} ${type}`).toBeDefined();
  const validate = ajv.compile(closed(schema));
  expect(validate(body), JSON.stringify(validate.errors)).toBe(true);
}

/** With every object closed, so that a field that nobody documented shows. */
function closed(schema: unknown): object {
  return JSON.parse(JSON.stringify(schema), (_key, value: unknown) =>
    typeof value === 'object' && value !== null && 'properties' in value ? { ...value, additionalProperties: false } : value) as object;
}

describe('/docs/openapi.json', () => {
  it('is a valid OpenAPI 3.1 document', async () => {
    expect(document.openapi).toBe('3.1.0');
    await expect(SwaggerParser.validate(structuredClone(document) as never)).resolves.toBeDefined();
  });

  it('describes every route of the API, and none that is not there', () => {
    const documented = Object.entries(document.paths!).flatMap(([path, item]) => Object.keys(item!).map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`));
    expect(documented.sort()).toEqual(Object.keys(OPERATIONS).sort());
    const routes = gateway.app.printRoutes({ commonPrefix: false, includeHooks: false });
    for (const path of Object.keys(OPERATIONS)) expect(routes).toContain(path.split('/').at(-1)!.replace(/^:id$/, ':id'));
  });

  it('documents a body by the schema that validates it', () => {
    const body = document.paths!['/v1/images/generations']!.post!.requestBody as OpenAPIV3_1.RequestBodyObject;
    expect(body.content['application/json']!.schema).toEqual(JSON.parse(JSON.stringify(ImagesRequestSchema)));
  });

  it('says what is answered: every kind of answer, field for field', async () => {
    const { app } = gateway;
    const check = async (url: string, path: string, status: number): Promise<void> => {
      const reply = await app.inject(url);
      expect(reply.statusCode).toBe(status);
      expectDocumented(path, 'get', status, 'application/json', reply.json());
    };
    const drawn = await gateway.post({ prompt: 'x', n: 2 });
    expectDocumented('/v1/images/generations', 'post', 200, 'application/json', drawn.json());
    expectDocumented('/v1/images/generations', 'post', 400, 'application/json', (await gateway.post({ prompt: 1 })).json());
    expectDocumented('/v1/images/generations', 'post', 404, 'application/json', (await gateway.post({ prompt: 'x', model: 'y' })).json());
    const accepted = await app.inject({ method: 'POST', url: '/v1/images/generations', headers: { prefer: 'respond-async', 'content-type': 'application/json' }, payload: '{"prompt":"x"}' });
    expectDocumented('/v1/images/generations', 'post', 202, 'application/json', accepted.json());
    const id = accepted.json<{ id: string }>().id;
    await gateway.backend.get(id)!.result;
    await check(`/v1/jobs/${id}`, '/v1/jobs/{id}', 200);
    await check('/v1/jobs/none', '/v1/jobs/{id}', 404);
    const cancelled = await app.inject({ method: 'POST', url: `/v1/jobs/${id}/cancel` });
    expectDocumented('/v1/jobs/{id}/cancel', 'post', 200, 'application/json', cancelled.json());
    await check('/v1/models', '/v1/models', 200);
    await check('/v1/models/tiny', '/v1/models/{id}', 200);
    await check('/v1/models/none', '/v1/models/{id}', 404);
    await check('/healthz', '/healthz', 200);
    await check('/readyz', '/readyz', 200);
  });

  it('says what is streamed', async () => {
    const { body } = await gateway.post({ prompt: 'x', n: 2, stream: true, partial_images: 1, stream_options: { include_progress: true } });
    const events = body.split('\n').filter((line) => line.startsWith('data: ')).map((line) => JSON.parse(line.slice('data: '.length)) as { type: string });
    expect(new Set(events.map(({ type }) => type)).size).toBe(3);
    for (const event of events) expectDocumented('/v1/images/generations', 'post', 200, 'text/event-stream', event);
  });
});

describe('/docs', () => {
  it('is a page that needs nothing from elsewhere', async () => {
    const page = await gateway.app.inject('/docs/');
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-type']).toContain('text/html');
    const files = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!);
    expect(files.length).toBeGreaterThan(3);
    for (const file of files) {
      expect(file).not.toMatch(/^(https?:)?\/\//);
      const url = new URL(file, 'http://host/docs/').pathname;
      expect([url, (await gateway.app.inject(url)).statusCode]).toEqual([url, 200]);
    }
    expect(String(page.headers['content-security-policy'])).toContain("default-src 'self'");
    expect((await gateway.app.inject('/docs')).statusCode).toBeLessThan(400);
    expect((await gateway.app.inject('/docs/static/swagger-initializer.js')).body).toContain('/docs/openapi.json');
  });
});
