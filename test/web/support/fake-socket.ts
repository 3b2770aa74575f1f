/** A WebSocket whose other end is the test. */
export class FakeSocket extends EventTarget {
  binaryType = 'blob';
  readyState = 0;
  readonly sent: Record<string, unknown>[] = [];

  open(): void {
    this.readyState = 1;
    this.dispatchEvent(new Event('open'));
  }

  say(frame: Record<string, unknown>): void {
    this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(frame) }));
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.dispatchEvent(new Event('close'));
  }

  of(type: string): Record<string, unknown>[] {
    return this.sent.filter(({ t }) => t === type);
  }
}
