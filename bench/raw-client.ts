import { connect, type Socket } from 'node:net';

export interface RawAnswer {
  text: string;
  /** From the moment the request is written to the moment its last byte is read. */
  seconds: number;
}

/**
 * HTTP/1.1 by hand over kept connections. What Node's own client does for a request takes longer than what the server
 * does, and would count as the server's: this one writes one buffer and looks for the end of the answer.
 */
export class RawClients {
  private readonly idle: Socket[] = [];
  private readonly all = new Set<Socket>();

  constructor(private readonly port: number) {}

  get(path: string): Promise<RawAnswer> {
    return this.exchange(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`);
  }

  post(path: string, body: string): Promise<RawAnswer> {
    const head = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
    return this.exchange(`POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n${head}${body}`);
  }

  private async exchange(text: string): Promise<RawAnswer> {
    const socket = this.idle.pop() ?? (await this.open());
    const message = Buffer.from(text);
    const chunks: Buffer[] = [];
    let end = Infinity;
    const begin = performance.now();
    await new Promise<void>((resolve, reject) => {
      let received = 0;
      const onData = (chunk: Buffer): void => {
        chunks.push(chunk);
        received += chunk.length;
        if (end === Infinity) end = endOf(Buffer.concat(chunks));
        if (received < end) return;
        socket.off('data', onData);
        socket.off('close', onClose);
        resolve();
      };
      const onClose = (): void => {
        reject(new Error('the server closed the connection'));
      };
      socket.on('data', onData);
      socket.on('close', onClose);
      socket.write(message);
    });
    const seconds = (performance.now() - begin) / 1000;
    this.idle.push(socket);
    const answer = Buffer.concat(chunks).toString();
    const content = answer.slice(answer.indexOf('\r\n\r\n') + 4);
    if (!answer.startsWith('HTTP/1.1 200 ')) throw new Error(`${answer.slice(9, 12)}: ${content}`);
    return { text: content, seconds };
  }

  close(): void {
    for (const socket of this.all) socket.destroy();
  }

  private open(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: this.port, noDelay: true }, () => {
        socket.off('error', reject);
        resolve(socket);
      });
      socket.once('error', reject);
      this.all.add(socket);
    });
  }
}

/** Bytes of the whole answer, or Infinity while its head is not complete. */
function endOf(bytes: Buffer): number {
  const head = bytes.indexOf('\r\n\r\n');
  if (head < 0) return Infinity;
  const length = /\r\ncontent-length: (\d+)/i.exec(bytes.toString('latin1', 0, head));
  if (length === null) throw new Error('an answer without content-length');
  return head + 4 + Number(length[1]);
}
