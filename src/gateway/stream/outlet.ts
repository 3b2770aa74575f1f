import type { WebSocket } from 'ws';
import { encodeBinaryFrame } from './binary-frame.js';
import type { Outgoing } from './job-feed.js';

/** What of a socket is used here; `ws` fits. */
export type Sink = Pick<WebSocket, 'bufferedAmount' | 'send'>;

/** From here on nothing more is made for the socket until it has taken some. */
const HIGH_WATER_BYTES = 1024 * 1024;

/**
 * The way out of one socket. It asks for the next frame only while the socket has room, so what a slow reader has not
 * taken is at most a mebibyte and one picture, whatever it follows.
 */
export class Outlet {
  private congested = false;
  private watchdog: NodeJS.Timeout | null = null;
  private givenBytes = 0;

  constructor(
    private readonly sink: Sink,
    /** The next frame, or null when there is none. */
    private readonly next: () => Outgoing | null,
    private readonly slowReaderMs: number,
    private readonly onStuck: () => void,
  ) {}

  /** Sends what there is room for. Called whenever there may be something new. */
  pump(): void {
    while (this.sink.bufferedAmount < HIGH_WATER_BYTES) {
      const outgoing = this.next();
      if (outgoing === null) {
        this.relax();
        return;
      }
      this.send(outgoing);
    }
    this.congested = true;
    this.watch();
  }

  close(): void {
    this.relax();
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
    this.watchdog = setTimeout(() => {
      this.watchdog = null;
      if (!this.congested) return;
      if (this.takenBytes <= before) this.onStuck();
      else this.watch();
    }, this.slowReaderMs).unref();
  }

  private relax(): void {
    this.congested = false;
    if (this.watchdog !== null) clearTimeout(this.watchdog);
    this.watchdog = null;
  }
}
