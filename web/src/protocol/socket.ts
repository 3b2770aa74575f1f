import { localError, type Drawing, type DrawListener } from './events.js';
import { parseBinaryFrame, parseTextFrame, type ClientFrame, type ImagesRequest, type ServerFrame } from './frames.js';
import { JobStream } from './job-stream.js';
import { randomId } from './random-id.js';

export const SUBPROTOCOL = 'ardiff.v1';

/** How long the server keeps drawing for a page that lost its connection: a lift, a tunnel, a laptop lid. */
const GRACE_MS = 60_000;
/** Previews under way at once, before we say that we have drawn them. */
const WINDOW = 64;
/** Before the first `welcome`: longer means that something in between swallowed the handshake. */
const WELCOME_TIMEOUT_MS = 5000;
const BACKOFF_MS = [250, 500, 1000, 2000, 4000, 8000] as const;

/** Between two questions to a server that was restarted and is still loading its model. */
const LOADING_RETRY_MS = 500;

export type SocketState = 'idle' | 'connecting' | 'open' | 'retrying' | 'refused';

export interface SocketOptions {
  url: string;
  onState: (state: SocketState) => void;
  /** The browser's; tests bring their own. */
  open?: (url: string, protocol: string) => WebSocket;
  /** Longest side of a row preview, in pixels. */
  maxPreviewPx?: number;
}

interface Pending {
  stream: JobStream;
  request: ImagesRequest;
  /** The same for every sending of this request: a repeated one joins the job instead of drawing twice. */
  key: string;
  isCancelled: boolean;
  isRestarted: boolean;
}

/**
 * One socket for all drawings of this page. It reconnects by itself and resumes every unfinished job. A socket that
 * never got its `welcome` is refused: the caller then takes another way.
 */
export class StreamSocket {
  private socket: WebSocket | null = null;
  private state: SocketState = 'idle';
  private wasWelcome = false;
  private attempts = 0;
  private heartbeatMs = 15_000;
  private lastHeard = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private watchdog: ReturnType<typeof setInterval> | null = null;
  private reconnectAfterMs: number | null = null;
  private readonly pending = new Set<Pending>();
  private readonly waiting: ((welcome: boolean) => void)[] = [];

  constructor(private readonly options: SocketOptions) {}

  get isRefused(): boolean {
    return this.state === 'refused';
  }

  /** Connects (again), also after a refusal. Resolves with whether the server has said welcome. */
  connect(): Promise<boolean> {
    if (this.state === 'open') return Promise.resolve(true);
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      if (this.socket === null) this.open();
    });
  }

  draw(request: ImagesRequest, listener: DrawListener): Drawing {
    const key = randomId();
    const entry: Pending = { stream: new JobStream(key, listener), request, key, isCancelled: false, isRestarted: false };
    this.pending.add(entry);
    if (this.state === 'open') this.sendGenerate(entry);
    return { cancel: () => { this.cancel(entry); } };
  }

  private cancel(entry: Pending): void {
    if (entry.stream.isOver) return;
    entry.isCancelled = true;
    const job = entry.stream.jobId;
    if (job !== null && this.state === 'open') {
      this.send({ t: 'cancel', job });
    } else if (job === null && this.state !== 'open') {
      // Never accepted and nobody to tell; should it have been accepted unseen, its grace time ends it.
      entry.stream.emit({ type: 'cancelled' });
      this.pending.delete(entry);
    }
  }

  private open(): void {
    this.clearTimer();
    this.setState(this.wasWelcome ? 'retrying' : 'connecting');
    const open = this.options.open ?? ((url: string, protocol: string) => new WebSocket(url, protocol));
    const socket = open(this.options.url, SUBPROTOCOL);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.timer = setTimeout(() => { socket.close(); this.lost(socket); }, WELCOME_TIMEOUT_MS);
    socket.addEventListener('open', () => { this.hello(); });
    socket.addEventListener('message', (event: MessageEvent<string | ArrayBuffer>) => {
      if (socket === this.socket) this.receive(event.data);
    });
    socket.addEventListener('close', () => { this.lost(socket); });
  }

  private hello(): void {
    const resume = [...this.pending].map(({ stream }) => stream.resumePoint).filter((point) => point !== null);
    this.send({ t: 'hello', resume, preview: { format: 'png', max_px: this.options.maxPreviewPx ?? 512, min_interval_ms: 0 }, window: WINDOW });
  }

  private receive(data: string | ArrayBuffer): void {
    this.lastHeard = Date.now();
    if (typeof data !== 'string') {
      const frame = parseBinaryFrame(data);
      if (frame === null) return;
      this.find(frame.job)?.stream.onBinary(frame);
      if (!frame.final) this.send({ t: 'ack', job: frame.job, seq: frame.seq });
      return;
    }
    const frame = parseTextFrame(data);
    if (frame !== null) this.onFrame(frame);
    this.dropFinished();
  }

  private onFrame(frame: ServerFrame): void {
    switch (frame.t) {
      case 'welcome':
        this.welcome(frame.heartbeat_ms);
        return;
      case 'draining':
        this.reconnectAfterMs = frame.reconnect_after_ms;
        return;
      case 'error':
        this.onError(frame);
        return;
      case 'subscribed':
      case 'gap':
        this.find(frame.job)?.stream.onEpoch(frame.epoch);
        return;
      case 'pong':
        return;
      case 'accepted': {
        const entry = [...this.pending].find(({ stream }) => stream.id === frame.id) ?? this.find(frame.job);
        entry?.stream.onText(frame);
        if (entry?.isCancelled === true) this.send({ t: 'cancel', job: frame.job });
        return;
      }
      default:
        this.find(frame.job)?.stream.onText(frame);
    }
  }

  private welcome(heartbeatMs: number): void {
    this.clearTimer();
    this.heartbeatMs = heartbeatMs;
    const isReturn = this.wasWelcome;
    this.wasWelcome = true;
    this.attempts = 0;
    this.setState('open');
    for (const entry of this.pending) {
      // Resumed by the hello, or, where no answer had come, asked again under the same key.
      if (entry.stream.jobId === null) this.sendGenerate(entry);
      else if (entry.isCancelled) this.send({ t: 'cancel', job: entry.stream.jobId });
      if (isReturn) entry.stream.emit({ type: 'resumed' });
    }
    this.settle(true);
    this.watchdog ??= setInterval(() => { this.watch(); }, 1000);
  }

  /** The server refuses one frame: the drawing it was about is over, everything else goes on. */
  private onError({ id, job, error }: Extract<ServerFrame, { t: 'error' }>): void {
    const entry = [...this.pending].find(({ stream }) => (id !== undefined && stream.id === id) || (job !== undefined && stream.jobId === job));
    if (entry === undefined) return;
    if (entry.isCancelled) {
      entry.stream.emit({ type: 'cancelled' });
    } else if (error.code === 'job_not_found' && !entry.isRestarted) {
      // Restarted while we were away. The seed is ours, so asking again draws the same picture.
      entry.isRestarted = true;
      entry.stream.restart();
      this.sendGenerate(entry);
    } else if (error.code === 'model_loading' && entry.isRestarted) {
      // It listens before it can draw; whoever had a picture under way waits for it.
      setTimeout(() => { if (this.state === 'open' && this.pending.has(entry)) this.sendGenerate(entry); }, LOADING_RETRY_MS);
    } else {
      entry.stream.emit({ type: 'failed', error });
    }
  }

  /** A dead peer sends no close. While something is drawn, silence is asked about, and long silence is a loss. */
  private watch(): void {
    const socket = this.socket;
    if (socket === null || this.state !== 'open' || this.pending.size === 0) return;
    const silence = Date.now() - this.lastHeard;
    if (silence > 2 * this.heartbeatMs) this.lost(socket);
    else if (silence > this.heartbeatMs) this.send({ t: 'ping' });
  }

  private lost(socket: WebSocket): void {
    if (socket !== this.socket) return;
    this.clearTimer();
    this.socket = null;
    socket.close();
    if (!this.wasWelcome) {
      this.setState('refused');
      this.failAll();
      this.settle(false);
      return;
    }
    for (const { stream } of this.pending) stream.emit({ type: 'interrupted' });
    this.setState('retrying');
    const backoff = BACKOFF_MS[Math.min(this.attempts, BACKOFF_MS.length - 1)]!;
    this.attempts++;
    // A little apart, so that all pages of a restarted server do not come at once.
    const delay = (this.reconnectAfterMs ?? backoff) * (1 + Math.random() / 4);
    this.reconnectAfterMs = null;
    this.timer = setTimeout(() => { this.open(); }, delay);
  }

  private failAll(): void {
    for (const { stream } of this.pending) stream.emit({ type: 'failed', error: localError('socket_refused', 'The live connection was refused.') });
    this.pending.clear();
  }

  private sendGenerate({ stream, key, request }: Pending): void {
    this.send({ t: 'generate', id: stream.id, idempotency_key: key, on_disconnect: { grace_ms: GRACE_MS }, request });
  }

  private find(job: string): Pending | undefined {
    return [...this.pending].find(({ stream }) => stream.jobId === job);
  }

  private dropFinished(): void {
    for (const entry of this.pending) if (entry.stream.isOver) this.pending.delete(entry);
  }

  private send(frame: ClientFrame): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(frame));
  }

  private settle(welcome: boolean): void {
    for (const resolve of this.waiting.splice(0)) resolve(welcome);
  }

  private setState(state: SocketState): void {
    if (state === this.state) return;
    this.state = state;
    this.options.onState(state);
  }

  private clearTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}
