import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance, FastifySchema, RouteOptions } from 'fastify';
import fp from 'fastify-plugin';
import { VERSION } from '../../version.js';
import { asyncApi } from './asyncapi.js';
import { OPERATIONS, type Operation } from './operations.js';

/**
 * OpenAPI 3.1 of all routes that are registered after it: a page at /docs, the document at /docs/openapi.json. AsyncAPI of
 * the WebSocket at /docs/asyncapi.json.
 *
 * Bodies are documented by the very schemas that validate them. What is answered is described beside the routes
 * (operations.ts) and not in them: as a route's own schema it would also be used to write the answers, which would cost
 * pictures a second pass and drop fields that are new.
 */
export const apiDocs = fp(async (app: FastifyInstance) => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'fast-ardiff',
        version: VERSION,
        description: "OpenAI's Images API for autoregressive-diffusion models, with live progress. The WebSocket is described in /docs/asyncapi.json.",
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [{ name: 'Pictures' }, { name: 'Jobs' }, { name: 'Models' }, { name: 'Operations' }],
    },
    transform: ({ schema, url, route }) => ({ schema: describe(schema, url, route), url }),
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    // Nothing inline, nothing from elsewhere: the page works without the internet.
    staticCSP: true,
    uiConfig: { url: '/docs/openapi.json', validatorUrl: null, deepLinking: true, docExpansion: 'list' },
  });
  const socket = asyncApi();
  app.get('/docs/asyncapi.json', { schema: { hide: true } }, async () => socket);
  app.get('/docs/openapi.json', { schema: { hide: true } }, async () => app.swagger());
});

type Described = FastifySchema & { hide?: boolean };

function describe(schema: FastifySchema | undefined, url: string, { method }: Pick<RouteOptions, 'method'>): Described {
  const operation = OPERATIONS[`${[method].flat()[0]} ${url}`];
  if (operation === undefined) {
    if (url.startsWith('/v1/')) throw new Error(`${[method].flat()[0]} ${url} is not described in operations.ts`);
    // The page, its files and these documents are for people.
    return { hide: true };
  }
  return {
    ...schema,
    tags: [operation.tag],
    summary: operation.summary,
    ...(operation.description === undefined ? {} : { description: operation.description }),
    ...(operation.headers === undefined ? {} : { headers: strings(operation.headers, []) }),
    ...(operation.params === undefined ? {} : { params: strings(operation.params, Object.keys(operation.params)) }),
    response: Object.fromEntries(Object.entries(operation.answers).map(([status, answer]) => [status, responseOf(answer)])),
  };
}

function strings(descriptions: Readonly<Record<string, string>>, required: readonly string[]): object {
  const properties = Object.fromEntries(Object.entries(descriptions).map(([name, description]) => [name, { type: 'string', description }]));
  return { type: 'object', properties, required };
}

function responseOf({ description, content }: Operation['answers'][string]): object {
  if (content === undefined) return { description, type: 'null' };
  const byType = Object.entries(content).map(([type, schema]) => [type, { schema: schema ?? { type: 'string' } }]);
  return { description, content: Object.fromEntries(byType) as Record<string, unknown> };
}
