import { byId, h } from './dom.js';

const TOAST_MS = 2500;

/** Words for screen readers, and short ones for everybody. */
export class Announcer {
  private readonly live = byId('live', HTMLParagraphElement);
  private toastElement: HTMLElement | null = null;

  say(text: string): void {
    this.live.textContent = text;
  }

  /** Seen for a moment, and said. */
  toast(text: string): void {
    this.toastElement?.remove();
    const element = h('div', { class: 'toast', 'aria-hidden': 'true' }, text);
    this.toastElement = element;
    document.body.append(element);
    this.say(text);
    setTimeout(() => { element.remove(); }, TOAST_MS);
  }
}
