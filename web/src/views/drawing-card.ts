import type { DrawEvent } from '../protocol/events.js';
import { hasDrafts, isOver, type DrawingState } from '../state/drawing.js';
import { accelerationInWords, statusOf } from '../state/words.js';
import { h, setText } from './dom.js';
import { icon, type IconName } from './icons.js';
import { PictureTile, type TileShape } from './picture-tile.js';

export interface CardActions {
  cancel(): void;
  copyLink(): void;
  copyCurl(): void;
}

/** One request on the stage: its pictures, how far they are, what can be done with them. */
export class DrawingCard {
  readonly element: HTMLElement;
  private readonly tiles: readonly PictureTile[];
  private readonly bar = h('progress', { max: 1, value: 0 });
  private readonly status = h('p', { class: 'status' });
  private readonly done = h('p', { class: 'done soft', hidden: true });
  private readonly legend = h('p', { class: 'legend soft', hidden: true }, h('span', { class: 'key accepted' }), 'draft taken', h('span', { class: 'key target' }), 'drawn by the model');
  private readonly cancel: HTMLButtonElement;
  private readonly copies: readonly HTMLButtonElement[];

  constructor(prompt: string, count: number, shape: TileShape, actions: CardActions) {
    this.tiles = Array.from({ length: count }, () => new PictureTile(prompt, shape));
    this.cancel = button('close', 'Cancel', actions.cancel);
    this.cancel.classList.add('cancel');
    this.copies = [button('link', 'Link', actions.copyLink, 'Copy link'), button('terminal', 'curl', actions.copyCurl, 'Copy as curl')];
    this.bar.setAttribute('aria-label', `Progress of ${prompt}`);
    const pictures = h('div', { class: 'pictures', 'data-count': count }, ...this.tiles.map((tile) => tile.element));
    pictures.style.setProperty('--width', `${shape.width}px`);
    const actionsRow = h('div', { class: 'actions' }, ...this.copies, this.cancel);
    this.element = h(
      'article',
      { class: 'card drawing-card', 'aria-label': prompt },
      h('div', { class: 'head' }, h('h2', {}, prompt), actionsRow),
      pictures,
      this.bar,
      this.status,
      this.legend,
      this.done,
    );
  }

  /** Pixels go to their picture; everything else is in the state. */
  onEvent(event: DrawEvent, state: DrawingState): void {
    if (event.type === 'preview') this.tiles[event.image]?.preview(event.rect, event.mime, event.bytes);
    if (event.type === 'image') this.tiles[event.image]?.finish(event.mime, event.bytes, state.pictures[event.image]?.seed ?? 0);
  }

  update(state: DrawingState): void {
    const over = isOver(state);
    state.pictures.forEach((picture, i) => this.tiles[i]?.update(state, picture, over));
    this.bar.value = state.fraction;
    this.bar.hidden = over;
    setText(this.status, statusOf(state));
    this.status.classList.toggle('error', state.phase === 'failed');
    this.element.dataset['phase'] = state.phase;
    this.cancel.hidden = over;
    this.legend.hidden = !hasDrafts(state);
    const words = accelerationInWords(state);
    this.done.hidden = words === null;
    setText(this.done, [words, state.usage === null ? null : `${state.usage.output_tokens} image tokens`].filter((part) => part !== null).join(' · '));
  }

  dispose(): void {
    for (const tile of this.tiles) tile.dispose();
    this.element.remove();
  }
}

function button(name: IconName, text: string, onClick: () => void, label = text): HTMLButtonElement {
  const element = h('button', { type: 'button', class: 'quiet', 'aria-label': label, title: label }, icon(name), h('span', {}, text));
  element.addEventListener('click', onClick);
  return element;
}
