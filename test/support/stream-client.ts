import { WebSocket, type ClientOptions } from 'ws';
import { until } from './until.js';

export type TextFrame = { t: string } & Record<string, unknown>;

export interface PictureFrame {
  meta: Record<string, unknown>;
  bytes: Buffer;
}

/** A raw client of `ardiff.v1` that keeps everything it is told, in order. */
export class StreamClient {
  readonly frames: TextFrame[] = [];
  readonly pictures: PictureFrame[] = [];
  closed: { code: number; reason: string } | null = null;

  private constructor(readonly socket: WebSocket) {
    socket.on('message', (data: Buffer, isBinary: boolean) => {
      if (isBinary) this.pictures.push(decodeComfy(data));
      else this.frames.push(JSON.parse(data.toString()) as TextFrame);
    });
    socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
    });
    socket.on('error', () => undefined);
  }

  static async open(port: number, { protocols = ['ardiff.v1'], ...options }: ClientOptions & { protocols?: string[] } = {}): Promise<StreamClient> {
    const client = new StreamClient(new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, protocols, options));
    await new Promise<void>((resolve, reject) => {
      client.socket.once('open', resolve);
      client.socket.once('error', reject);
    });
    return client;
  }

  send(frame: object | string): void {
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  /** All frames of that type so far. */
  all(t: string): TextFrame[] {
    return this.frames.filter((frame) => frame.t === t);
  }

  /** Waits for the n-th frame of that type. */
  async frame(t: string, index = 0): Promise<TextFrame> {
    await until(() => this.all(t).length > index, `frame ${t} ${index}; have ${this.frames.map((frame) => frame.t).join(' ')}`);
    return this.all(t)[index]!;
  }

  async close(): Promise<void> {
    this.socket.close();
    await until(() => this.closed !== null, 'close');
  }
}

/** As a ComfyUI front end reads "preview with metadata": u32 BE type, u32 BE length, JSON, bytes. */
export function decodeComfy(data: Buffer): PictureFrame {
  if (data.readUInt32BE(0) !== 4) throw new Error(`event type ${data.readUInt32BE(0)}`);
  const length = data.readUInt32BE(4);
  return { meta: JSON.parse(data.subarray(8, 8 + length).toString()) as Record<string, unknown>, bytes: data.subarray(8 + length) };
}
