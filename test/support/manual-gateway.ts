import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { JobEvent } from '../../src/jobs/job.js';
import { createGateway, type Gateway, type GatewayOptions } from './gateway-harness.js';
import { ManualWorker, STARTED } from './manual-worker.js';
import { until } from './until.js';

/** A real socket to a gateway whose jobs a test plays by hand. */
export class ManualGateway {
  private constructor(
    readonly gateway: Gateway,
    readonly worker: ManualWorker,
    readonly port: number,
  ) {}

  static async start(options: GatewayOptions = {}): Promise<ManualGateway> {
    const worker = new ManualWorker();
    const gateway = await createGateway({ worker, ...options, patience: { progressMs: 0, ...options.patience } });
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    return new ManualGateway(gateway, worker, (gateway.app.server.address() as AddressInfo).port);
  }

  /** Sends a request and leaves its answer to the caller. */
  send(method: string, path: string, body?: object, headers: Record<string, string> = {}): OpenRequest {
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const call = httpRequest({ host: '127.0.0.1', port: this.port, method, path, headers: { ...type, ...headers }, agent: false });
    const open = new OpenRequest(call);
    call.end(body === undefined ? undefined : JSON.stringify(body));
    return open;
  }

  draw(body: object, headers: Record<string, string> = {}): OpenRequest {
    return this.send('POST', '/v1/images/generations', { prompt: 'x', ...body }, headers);
  }

  /** Waits for job number `index` to reach the worker. */
  async job(index = 0): Promise<(event: JobEvent) => void> {
    await until(() => this.worker.emits.length > index, `job ${index}`);
    return this.worker.emits[index]!;
  }

  async start(index = 0): Promise<(event: JobEvent) => void> {
    const emit = await this.job(index);
    emit(STARTED);
    return emit;
  }

  close(): Promise<void> {
    return this.gateway.close();
  }
}

export class OpenRequest {
  /** Of the body so far. */
  text = '';
  /** Times of interim answers, and their headers. */
  readonly interim: Record<string, unknown>[] = [];
  readonly response: Promise<IncomingMessage>;
  /** The whole body; rejects when the connection breaks. */
  readonly body: Promise<string>;

  constructor(readonly call: ClientRequest) {
    call.on('information', ({ statusCode, headers }) => this.interim.push({ statusCode, ...headers }));
    this.response = new Promise((resolve, reject) => {
      call.on('response', resolve);
      call.on('error', reject);
    });
    this.body = this.response.then(
      (reply) =>
        new Promise((resolve, reject) => {
          reply.on('data', (chunk) => (this.text += String(chunk)));
          reply.on('end', () => {
            resolve(this.text);
          });
          reply.on('error', reject);
        }),
    );
    this.response.catch(() => undefined);
    this.body.catch(() => undefined);
  }

  abort(): void {
    this.call.destroy();
  }
}
