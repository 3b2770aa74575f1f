import type { Socket } from 'node:net';
import websocket from '@fastify/websocket';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { WebSocket } from 'ws';
import { ServerError } from '../../errors.js';
import type { GatewayDeps } from '../deps.js';
import { scopeOf } from '../fingerprint.js';
import { STREAM_LIMITS, SUBPROTOCOL } from './frames.js';
import { isAllowedOrigin } from './origin.js';
import { unsentBytes } from './outlet.js';
import { PumpQueue } from './pump-queue.js';
import { StreamSession } from './session.js';

/** Beyond this the library itself ends the connection, before the frame is in memory. */
const HARD_FRAME_BYTES = 4 * STREAM_LIMITS.frameBytes;

/** For last words to reach their readers. The library would wait half a minute for one that does not answer. */
const GOODBYE_MS = 2000;

/** GET /v1/stream: the WebSocket `ardiff.v1` (docs/streaming.md). */
export async function streamRoute(app: FastifyInstance, deps: GatewayDeps): Promise<void> {
  const sessions = new Set<StreamSession>();
  const queue = new PumpQueue();
  deps.metrics.streams.watch(() => ({
    connections: sessions.size,
    bufferedBytes: [...sessions].reduce((sum, session) => sum + session.bufferedBytes, 0),
  }));
  await app.register(websocket, {
    options: {
      maxPayload: HARD_FRAME_BYTES,
      // Pictures do not get smaller, and compression contexts fragment memory.
      perMessageDeflate: false,
      handleProtocols: (protocols) => (protocols.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    },
    // Jobs are over by now, or given up; what their followers have not read is still sent before the close.
    preClose: (done) => {
      for (const session of sessions) session.drain();
      setTimeout(() => {
        for (const session of sessions) session.terminate();
      }, GOODBYE_MS);
      done();
    },
  });
  app.route({
    method: 'GET',
    url: '/v1/stream',
    preValidation: async (request, reply) => {
      if (request.headers.upgrade === undefined) return;
      // A refused handshake ends its connection; a client that kept it would be cut off with its next request.
      void reply.header('connection', 'close');
      refuseHandshake(request, deps);
    },
    handler: async () => {
      throw new ServerError('upgrade_required', 'This route is for WebSockets: connect with the subprotocol "ardiff.v1".');
    },
    wsHandler: (socket, request) => {
      const session = new StreamSession(socket, deps, queue, request.raw.socket, scopeOf(request.headers.authorization));
      sessions.add(session);
      listen(socket, session);
      keepAlive(socket, request.raw.socket, deps.patience.pingMs);
      socket.once('close', () => {
        session.close();
        sessions.delete(session);
      });
    },
  });
}

/** Before the upgrade, so that a wrong client gets a status and an envelope and not a closed socket. */
function refuseHandshake(request: FastifyRequest, { allowedOrigins, serving }: GatewayDeps): void {
  const { origin, host } = request.headers;
  // Those who are there are being told to go; nobody would tell this one.
  if (serving.status === 'draining') throw new ServerError('draining', 'The server is shutting down.', { retryAfterSeconds: 5 });
  if (!isAllowedOrigin(origin, host, allowedOrigins)) {
    throw new ServerError('origin_not_allowed', 'Pages of this origin may not open sockets here; the server can allow it (--allow-origin).');
  }
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((protocol) => protocol.trim());
  if (!offered.includes(SUBPROTOCOL)) {
    throw new ServerError('invalid_value', `The Sec-WebSocket-Protocol header must offer "${SUBPROTOCOL}".`, { param: 'Sec-WebSocket-Protocol' });
  }
}

function listen(socket: WebSocket, session: StreamSession): void {
  // The library closes a socket whose frames break the protocol, with the right code; there is nobody to tell.
  socket.on('error', () => undefined);
  socket.on('message', (data, isBinary) => {
    const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as Buffer);
    if (bytes.byteLength > STREAM_LIMITS.frameBytes) {
      session.refuse(new ServerError('request_body_too_large', `A frame may have at most ${STREAM_LIMITS.frameBytes} bytes.`));
      session.end(1009, 'frame too large');
    } else if (isBinary) {
      session.refuse(new ServerError('invalid_value', 'Frames to the server are JSON text; this one is binary.'));
    } else {
      session.receiveText(bytes.toString('utf8'));
    }
  });
}

/** A peer that is gone without a word does not answer pings, and takes nothing of what waits before them. */
function keepAlive(socket: WebSocket, connection: Socket, pingMs: number): void {
  let isAlive = true;
  let unsent = 0;
  socket.on('pong', () => {
    isAlive = true;
  });
  const timer = setInterval(() => {
    const before = unsent;
    unsent = unsentBytes(connection);
    if (!isAlive && !(unsent < before)) {
      socket.terminate();
      return;
    }
    isAlive = false;
    socket.ping();
  }, pingMs).unref();
  socket.once('close', () => {
    clearInterval(timer);
  });
}
