import { Parser } from '@asyncapi/parser';
import { Ajv } from 'ajv';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { CLIENT_FRAMES, SERVER_FRAMES } from '../../../src/gateway/stream/frames.js';
import { createGateway, type Gateway } from '../../support/gateway-harness.js';
import { until } from '../../support/until.js';

interface Document {
  operations: Record<'send' | 'receive', { messages: { $ref: string }[] }>;
  components: { messages: Record<string, { payload: object }> };
}

let gateway: Gateway;
let text: string;
let document: Document;

beforeAll(async () => {
  gateway = await createGateway();
  text = (await gateway.app.inject('/docs/asyncapi.json')).body;
  document = JSON.parse(text) as Document;
});

afterAll(async () => {
  await gateway.close();
});

describe('/docs/asyncapi.json', () => {
  it('is a valid AsyncAPI document', async () => {
    const { document: parsed, diagnostics } = await new Parser().parse(text);
    expect(diagnostics.filter(({ severity }) => severity === 0)).toEqual([]);
    expect(parsed?.version()).toBe('3.0.0');
  });

  it('describes every frame of both sides, and pictures', () => {
    const names = (action: 'send' | 'receive'): string[] => document.operations[action].messages.map(({ $ref }) => $ref.split('/').at(-1)!);
    expect(names('receive')).toEqual(Object.keys(CLIENT_FRAMES).map((name) => `client.${name}`));
    expect(names('send')).toEqual([...Object.keys(SERVER_FRAMES).map((name) => `server.${name}`), 'server.picture']);
    expect(document.components.messages['client.generate']!.payload).toEqual(JSON.parse(JSON.stringify(CLIENT_FRAMES.generate)));
  });

  it('says what a real socket says', async () => {
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = gateway.app.server.address() as AddressInfo;
    const client = new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, 'ardiff.v1');
    const frames: { t: string }[] = [];
    client.on('message', (data, isBinary) => {
      if (!isBinary) frames.push(JSON.parse((data as Buffer).toString()) as { t: string });
    });
    await once(client, 'open');
    const send = (frame: object): void => { client.send(JSON.stringify(frame)); };
    send({ t: 'hello', preview: {} });
    send({ t: 'generate', id: 'a', request: { prompt: 'x', partial_images: 1 } });
    send({ t: 'ping' });
    send({ t: 'nonsense' });
    await until(() => frames.some(({ t }) => t === 'completed'));
    client.close();
    const seen = new Set(frames.map(({ t }) => t));
    for (const t of ['welcome', 'accepted', 'started', 'image', 'completed', 'pong', 'error']) expect([...seen]).toContain(t);
    const ajv = new Ajv({ strict: false, logger: false });
    for (const frame of frames) {
      const validate = ajv.compile(document.components.messages[`server.${frame.t}`]!.payload);
      expect(validate(frame), JSON.stringify([frame, validate.errors])).toBe(true);
    }
  });
});
