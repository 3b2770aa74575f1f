import type { Page, WebSocketRoute } from 'playwright-core';
import sharp from 'sharp';

export interface MockOptions {
  /** Between two rows, in milliseconds. */
  rowMs: number;
  /** Token grid of one picture, and its side in pixels. */
  rows: number;
  side: number;
  /** Send which tokens were drafts that were taken. */
  withDrafts?: boolean;
}

/** A server that speaks `ardiff.v1` inside the browser: for what the real one cannot be made to do on cue. */
export async function mockStream(page: Page, options: MockOptions): Promise<void> {
  const picture = await drawPicture(options.side);
  await page.routeWebSocket(/\/v1\/stream$/, (socket) => {
    let jobs = 0;
    socket.onMessage((data) => {
      const frame = JSON.parse(String(data)) as { t: string; id?: string; job?: string; request?: { n?: number; seed?: number } };
      if (frame.t === 'hello') send(socket, { t: 'welcome', session: 's', heartbeat_ms: 15_000, limits: {}, models: [] });
      if (frame.t === 'generate') void runJob(socket, `job_${++jobs}`, frame.id ?? '', frame.request ?? {}, picture, options);
    });
  });
}

function send(socket: WebSocketRoute, frame: Record<string, unknown>): void {
  socket.send(JSON.stringify({ ts: Date.now(), ...frame }));
}

async function runJob(socket: WebSocketRoute, job: string, id: string, request: { n?: number; seed?: number }, picture: Buffer, { rowMs, rows, side, withDrafts }: MockOptions): Promise<void> {
  let seq = 0;
  const n = request.n ?? 1;
  const say = (frame: Record<string, unknown>): void => { send(socket, { job, seq: ++seq, ...frame }); };
  say({ t: 'accepted', id, epoch: 'e', position: 0, eta_ms: null, seeds: Array.from({ length: n }, (_, i) => (request.seed ?? 0) + i) });
  say({ t: 'started', worker: 'w', batch_size: n });
  const strip = side / rows;
  for (let row = 0; row < rows; row++) {
    await new Promise((resolve) => setTimeout(resolve, rowMs));
    for (let image = 0; image < n; image++) {
      const accepted = withDrafts === true ? Array.from({ length: rows }, (_, i) => (i * 7 + row * 3) % 5 !== 0) : undefined;
      say({ t: 'tokens', image, from: row * rows, to: (row + 1) * rows, accepted });
      const rect = { x: 0, y: row * strip, width: side, height: strip };
      const bytes = await sharp(picture).extract({ left: 0, top: rect.y, width: side, height: strip }).resize(side / 4, strip / 4).png().toBuffer();
      say({ t: 'preview', image, n: row, bytes: bytes.length, mime: 'image/png', w: side / 4, h: strip / 4, kind: 'rows', rect });
      socket.send(binary({ job, seq, image, image_type: 'image/png', final: false, rect }, bytes));
    }
    say({ t: 'progress', stage: 'ar', step: row + 1, total: rows, fraction: (0.96 * (row + 1)) / rows, eta_ms: (rows - row - 1) * rowMs });
  }
  for (let image = 0; image < n; image++) {
    say({ t: 'image', image, seed: (request.seed ?? 0) + image, mime: 'image/png', bytes: picture.length, final: true });
    socket.send(binary({ job, seq, image, image_type: 'image/png', final: true }, picture));
  }
  const drafts = withDrafts === true ? { mode: 'relaxed', few_step: 0, rounds: 20, draft_tokens: 60, accepted_tokens: 44, gate_stops: 3 } : { mode: 'off', few_step: 0, rounds: 0, draft_tokens: 0, accepted_tokens: 0, gate_stops: 0 };
  say({ t: 'completed', usage: { total_tokens: 70, input_tokens: 6, output_tokens: n * rows * rows, acceleration: drafts }, timings: { queue_ms: 0.4, draw_ms: rows * rowMs } });
}

function binary(meta: Record<string, unknown>, bytes: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(meta));
  const head = Buffer.alloc(8);
  head.writeUInt32BE(4, 0);
  head.writeUInt32BE(json.length, 4);
  return Buffer.concat([head, json, bytes]);
}

/** A red disc on white: something that is seen to be half there. */
function drawPicture(side: number): Promise<Buffer> {
  const disc = `<svg width="${side}" height="${side}"><rect width="100%" height="100%" fill="#fff"/><circle cx="50%" cy="50%" r="40%" fill="#d23"/></svg>`;
  return sharp(Buffer.from(disc)).png().toBuffer();
}
