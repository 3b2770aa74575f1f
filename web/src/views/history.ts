import type { HistoryEntry } from '../storage/history.js';
import { captionOf } from '../state/settings.js';
import { byId, h, setText } from './dom.js';

export interface HistoryActions {
  restore(entry: HistoryEntry): void;
  clear(): void;
}

/** Small pictures of what was drawn; a press brings prompt and seed back. */
export class HistoryView {
  private readonly list = byId('entries', HTMLUListElement);
  private readonly note = byId('history-note', HTMLParagraphElement);
  private readonly clear = byId('clear', HTMLButtonElement);
  private urls: string[] = [];

  constructor(private readonly actions: HistoryActions) {
    this.clear.addEventListener('click', () => { actions.clear(); });
  }

  show(entries: readonly HistoryEntry[], isKept: boolean): void {
    for (const url of this.urls) URL.revokeObjectURL(url);
    this.urls = [];
    this.list.replaceChildren(...entries.map((entry) => this.item(entry)));
    this.clear.hidden = entries.length === 0;
    const where = isKept ? 'Pictures stay in this browser only.' : 'This browser keeps nothing: the history ends with this page.';
    setText(this.note, entries.length === 0 ? `Nothing yet. ${where}` : where);
  }

  private item(entry: HistoryEntry): HTMLLIElement {
    const url = URL.createObjectURL(entry.thumbnail);
    this.urls.push(url);
    const caption = captionOf(entry.settings);
    const image = h('img', { src: url, alt: '', loading: 'lazy', width: 72, height: 72 });
    const button = h('button', { type: 'button', title: `${caption} · seed ${entry.settings.seed}`, 'aria-label': `Bring back ${caption}, seed ${entry.settings.seed}` }, image);
    button.addEventListener('click', () => { this.actions.restore(entry); });
    return h('li', {}, button);
  }
}
