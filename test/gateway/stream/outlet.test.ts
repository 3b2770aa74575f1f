import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Outlet, type Sink } from '../../../src/gateway/stream/outlet.js';
import type { PumpQueue } from '../../../src/gateway/stream/pump-queue.js';

const MIB = 1024 * 1024;

/** Everybody's turn is now. */
const NOW = { add: (serve: () => boolean) => { while (serve()); }, addLater: () => undefined, remove: () => undefined } as unknown as PumpQueue;

/** A socket that takes nothing until it is told to. */
class SlowSocket {
  bufferedAmount = 0;
  /** Of the write under way. */
  unsentBytes = 0;
  readonly sent: unknown[] = [];
  private readonly callbacks: (() => void)[] = [];

  readonly cork = vi.fn();
  readonly uncork = vi.fn();

  readonly send = (data: unknown, ...rest: unknown[]): void => {
    this.sent.push(data);
    this.bufferedAmount += typeof data === 'string' ? data.length : (data as Buffer).byteLength;
    this.callbacks.push(rest.at(-1) as () => void);
  };

  take(bytes: number): void {
    this.bufferedAmount = Math.max(0, this.bufferedAmount - bytes);
    for (const callback of this.callbacks.splice(0)) callback();
  }
}

const pong = { text: { t: 'pong' as const } };
const image = (bytes: number) => ({ ...pong, binary: { meta: { job: 'j', seq: 1, image: 0, image_type: 'image/png', final: true }, bytes: new Uint8Array(bytes) } });

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

function outletOf(socket: SlowSocket, frames: ReturnType<typeof image>[]) {
  const onStuck = vi.fn();
  const outlet = new Outlet(socket as unknown as Sink, NOW, () => frames.shift() ?? null, 10_000, onStuck);
  return { outlet, onStuck };
}

describe('Outlet', () => {
  it('makes no frame for a socket that has not taken a mebibyte', () => {
    const socket = new SlowSocket();
    const frames = Array.from({ length: 10 }, () => image(MIB / 2));
    const { outlet } = outletOf(socket, frames);
    outlet.pump();
    expect(frames).toHaveLength(8);
    outlet.pump();
    expect(frames).toHaveLength(8);
    socket.take(MIB);
    expect(frames).toHaveLength(6);
    for (let i = 0; i < 6; i += 1) socket.take(MIB);
    expect(frames).toEqual([]);
    expect(socket.sent).toHaveLength(20);
  });

  it('gives up a socket that takes nothing, and waits for one that takes little', () => {
    const socket = new SlowSocket();
    const { outlet, onStuck } = outletOf(socket, [image(3 * MIB), image(1)]);
    outlet.pump();
    vi.advanceTimersByTime(9999);
    socket.take(100);
    vi.advanceTimersByTime(1);
    expect(onStuck).not.toHaveBeenCalled();
    vi.advanceTimersByTime(10_000);
    expect(onStuck).toHaveBeenCalledOnce();
  });

  it('waits for a socket that takes much and always has more waiting', () => {
    const socket = new SlowSocket();
    const { outlet, onStuck } = outletOf(socket, Array.from({ length: 100 }, () => image(MIB)));
    outlet.pump();
    for (let second = 0; second < 45; second += 1) {
      vi.advanceTimersByTime(1000);
      socket.take(MIB);
      expect(socket.bufferedAmount).toBeGreaterThanOrEqual(MIB);
    }
    expect(onStuck).not.toHaveBeenCalled();
    vi.advanceTimersByTime(20_000);
    expect(onStuck).toHaveBeenCalledOnce();
  });

  it('waits for one that takes a part of a large write, which the public count does not show', () => {
    const socket = new SlowSocket();
    const { outlet, onStuck } = outletOf(socket, [image(3 * MIB), image(1)]);
    socket.unsentBytes = 4 * MIB;
    outlet.pump();
    for (let taken = 0; taken < 4; taken += 1) {
      socket.unsentBytes -= MIB;
      vi.advanceTimersByTime(10_000);
    }
    expect(onStuck).not.toHaveBeenCalled();
    vi.advanceTimersByTime(10_000);
    expect(onStuck).toHaveBeenCalledOnce();
  });

  it('gives up no socket for which nothing waits', () => {
    const socket = new SlowSocket();
    const { outlet, onStuck } = outletOf(socket, [image(100)]);
    outlet.pump();
    vi.advanceTimersByTime(60_000);
    expect(onStuck).not.toHaveBeenCalled();
    outlet.close();
  });
});
