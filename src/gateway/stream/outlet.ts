import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { encodeBinaryFrame } from './binary-frame.js';
import type { Outgoing } from './job-feed.js';
import type { PumpQueue } from './pump-queue.js';

/** What of a socket is used here. `cork` and `uncork`: of the connection below, so that many frames are one write. */
export interface Sink extends Pick<WebSocket, 'bufferedAmount' | 'send'> {
  cork(): void;
  uncork(): void;
  /** What of the write under way the kernel has not taken: it falls while a slow reader reads, `bufferedAmount` does not. */
  readonly unsentBytes: number;
}

/** The public count of a socket stands still until a whole write is out; Node's own timeout looks here, too. */
export function unsentBytes(connection: Socket): number {
  const { _handle: handle } = connection as unknown as { _handle?: { writeQueueSize?: number } | null };
  return handle?.writeQueueSize ?? connection.writableLength;
}

/** From here on nothing more is made for the socket until it has taken some. */
const HIGH_WATER_BYTES = 1024 * 1024;

/** Of one turn, so that no socket holds up the others. */
const FRAMES_PER_TURN = 32;

/**
 * The way out of one socket. It asks for the next frame only while the socket has room, so what a slow reader has not
 * taken is at most a mebibyte and one picture, whatever it follows.
 */
export class Outlet {
  private congested = false;
  private watchdog: NodeJS.Timeout | null = null;
  private givenBytes = 0;
  private readonly serve = (): boolean => this.sendSome();

  constructor(
    private readonly sink: Sink,
    private readonly queue: PumpQueue,
    /** The next frame, or null when there is none. */
    private readonly next: () => Outgoing | null,
    private readonly slowReaderMs: number,
    private readonly onStuck: () => void,
  ) {}

  /** There may be something new: it is sent when the socket's turn comes. */
  pump(): void {
    this.queue.add(this.serve);
  }

  /** The same for progress, which may wait for a tick and be merged. */
  pumpLater(): void {
    this.queue.addLater(this.serve);
  }

  /** Sends at once what there is room for; for last words. */
  flush(): void {
    while (this.sendSome());
  }

  close(): void {
    this.relax();
    this.queue.remove(this.serve);
  }

  /** Whether there is more, and room for it. */
  private sendSome(): boolean {
    this.sink.cork();
    try {
      for (let frames = 0; frames < FRAMES_PER_TURN; frames += 1) {
        if (this.sink.bufferedAmount >= HIGH_WATER_BYTES) {
          this.congested = true;
          this.watch();
          return false;
        }
        const outgoing = this.next();
        if (outgoing === null) {
          this.relax();
          return false;
        }
        this.send(outgoing);
      }
      return true;
    } finally {
      this.sink.uncork();
    }
  }

  private send({ text, binary }: Outgoing): void {
    // Room again is only of interest after there was none.
    const sent = (): void => {
      if (this.congested && this.sink.bufferedAmount < HIGH_WATER_BYTES) {
        this.congested = false;
        this.pump();
      }
    };
    this.give(Buffer.from(JSON.stringify(text)), false, sent);
    if (binary !== undefined) this.give(encodeBinaryFrame(binary.meta, binary.bytes), true, sent);
  }

  private give(frame: Buffer, binary: boolean, sent: () => void): void {
    this.givenBytes += frame.byteLength;
    this.sink.send(frame, { binary }, sent);
  }

  /** Of all that was given, in bytes; how much waits says nothing, as it is filled up again. */
  private get takenBytes(): number {
    return this.givenBytes - this.sink.bufferedAmount;
  }

  /** A socket that takes nothing is given up; one that takes little is waited for. */
  private watch(): void {
    if (this.watchdog !== null) return;
    const before = this.takenBytes;
    const unsentBefore = this.sink.unsentBytes;
    this.watchdog = setTimeout(() => {
      this.watchdog = null;
      if (!this.congested) return;
      if (this.takenBytes <= before && this.sink.unsentBytes >= unsentBefore) this.onStuck();
      else this.watch();
    }, this.slowReaderMs).unref();
  }

  private relax(): void {
    this.congested = false;
    if (this.watchdog !== null) clearTimeout(this.watchdog);
    this.watchdog = null;
  }
}
