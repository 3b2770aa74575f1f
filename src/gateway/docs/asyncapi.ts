import type { TSchema } from '@sinclair/typebox';
import { VERSION } from '../../version.js';
import { CLIENT_FRAMES, SERVER_FRAMES, SUBPROTOCOL } from '../stream/frames.js';

/**
 * AsyncAPI 3 of the WebSocket, from the schemas that its frames are read by. `receive` and `send` are the server's, as
 * the specification wants it.
 */
export function asyncApi(): object {
  const client = messagesOf(CLIENT_FRAMES);
  const server = { ...messagesOf(SERVER_FRAMES), picture: PICTURE };
  const names = { client: prefixed('client', client), server: prefixed('server', server) };
  return {
    asyncapi: '3.0.0',
    info: {
      title: `fast-ardiff, WebSocket ${SUBPROTOCOL}`,
      version: VERSION,
      description: `Draw, follow, resume and cancel over one socket. Offer the subprotocol ${SUBPROTOCOL}. HTTP: /docs/openapi.json.`,
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    channels: {
      stream: {
        address: '/v1/stream',
        messages: Object.fromEntries([...Object.keys(names.client), ...Object.keys(names.server)].map((name) => [name, { $ref: `#/components/messages/${name}` }])),
        bindings: { ws: { method: 'GET', headers: { type: 'object', required: ['Sec-WebSocket-Protocol'], properties: { 'Sec-WebSocket-Protocol': { type: 'string', const: SUBPROTOCOL } } } } },
      },
    },
    operations: {
      receive: operation('receive', 'What the client sends.', Object.keys(names.client)),
      send: operation('send', 'What the server sends.', Object.keys(names.server)),
    },
    components: { messages: { ...names.client, ...names.server } },
  };
}

/** Pictures and previews, in the layout that ComfyUI's front ends decode. */
const PICTURE = {
  name: 'picture',
  title: 'Binary frame: a preview or a picture',
  contentType: 'application/octet-stream',
  description:
    'Follows the preview or image frame that announces it. u32 4, u32 length of the JSON, the JSON {job, seq, image, image_type, final, rect?}, then the encoded picture; numbers are big-endian.',
  payload: { type: 'string', format: 'binary' },
};

interface Message {
  name: string;
  title: string;
  payload: unknown;
}

function messagesOf(frames: Readonly<Record<string, TSchema>>): Record<string, Message> {
  return Object.fromEntries(
    Object.entries(frames).map(([name, schema]) => [name, { name, title: `{"t": "${name}"}`, payload: JSON.parse(JSON.stringify(schema)) as unknown }]),
  );
}

/** Both sides may have a frame of the same name. */
function prefixed<T>(side: string, messages: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(messages).map(([name, message]) => [`${side}.${name}`, message]));
}

function operation(action: 'send' | 'receive', summary: string, messages: readonly string[]): object {
  return { action, summary, channel: { $ref: '#/channels/stream' }, messages: messages.map((name) => ({ $ref: `#/channels/stream/messages/${name}` })) };
}
