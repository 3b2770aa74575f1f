import type { TransportName } from '../protocol/events.js';
import type { SocketState } from '../protocol/socket.js';
import { byId, h, setText } from './dom.js';

/** How the page is connected, and a sentence when that is less than it could be. */
export class ConnectionView {
  private readonly notice = byId('notice', HTMLParagraphElement);
  private readonly chip = byId('way', HTMLParagraphElement);
  private readonly text = byId('way-text', HTMLSpanElement);

  constructor(private readonly onRetry: () => void) {}

  show(way: TransportName, socket: SocketState, isReachable: boolean): void {
    const { state, chip, sentence } = describe(way, socket, isReachable);
    this.chip.dataset['way'] = state;
    setText(this.text, chip);
    this.notice.hidden = sentence === null;
    if (sentence === null) {
      this.notice.replaceChildren();
    } else if (this.notice.dataset['sentence'] !== sentence) {
      const retry = h('button', { type: 'button', class: 'quiet' }, 'Try again');
      retry.addEventListener('click', this.onRetry);
      this.notice.replaceChildren(h('span', {}, sentence), retry);
    }
    this.notice.dataset['sentence'] = sentence ?? '';
  }
}

interface Described {
  state: 'live' | 'connecting' | 'limited' | 'down';
  chip: string;
  sentence: string | null;
}

export function describe(way: TransportName, socket: SocketState, isReachable: boolean): Described {
  if (!isReachable) return { state: 'down', chip: 'not connected', sentence: 'The server cannot be reached.' };
  if (way === 'sse') {
    return { state: 'limited', chip: 'HTTP stream', sentence: 'The WebSocket was refused. Pictures come over an HTTP stream, in a few steps instead of row by row.' };
  }
  if (way === 'http') {
    return { state: 'limited', chip: 'plain HTTP', sentence: 'The server refused to stream. Pictures appear once they are finished.' };
  }
  switch (socket) {
    case 'open':
      return { state: 'live', chip: 'live', sentence: null };
    case 'retrying':
      return { state: 'down', chip: 'reconnecting', sentence: 'The live connection broke. Reconnecting; pictures under way are not lost.' };
    case 'idle':
    case 'connecting':
    case 'refused':
      return { state: 'connecting', chip: 'connecting', sentence: null };
  }
}
