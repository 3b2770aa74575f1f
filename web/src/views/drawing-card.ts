import type { DrawEvent } from '../protocol/events.js';
import type { Suggestion } from '../protocol/frames.js';
import { hasDrafts, isOver, tokensDrawn, type DrawingState } from '../state/drawing.js';
import { accelerationInWords, outputInWords, statusOf } from '../state/words.js';
import { h, setText } from './dom.js';
import { icon, type IconName } from './icons.js';
import { PictureTile, type TileShape } from './picture-tile.js';

export interface CardActions {
  cancel(): void;
  copyLink(): void;
  copyCurl(): void;
  /** Of the prompts that the server suggests. */
  choose(prompt: string): void;
}

/** One request on the stage: its pictures, how far they are, what can be done with them. */
export class DrawingCard {
  readonly element: HTMLElement;
  private readonly tiles: readonly PictureTile[];
  private readonly pictures: HTMLElement;
  private readonly bar = h('progress', { max: 1, value: 0 });
  private readonly status = h('p', { class: 'status' });
  private readonly done = h('p', { class: 'done soft', hidden: true });
  private readonly legend = h('p', { class: 'legend soft', hidden: true }, h('span', { class: 'key accepted' }), 'draft taken', h('span', { class: 'key target' }), 'drawn by the model');
  private readonly choices = h('div', { class: 'chips choices', role: 'group', 'aria-label': 'Did you mean', hidden: true });
  private readonly cancel: HTMLButtonElement;
  private readonly copies: readonly HTMLButtonElement[];

  constructor(prompt: string, count: number, shape: TileShape, private readonly actions: CardActions) {
    this.tiles = Array.from({ length: count }, () => new PictureTile(prompt, shape));
    this.cancel = button('close', 'Cancel', actions.cancel);
    this.cancel.classList.add('cancel');
    this.copies = [button('link', 'Link', actions.copyLink, 'Copy link'), button('terminal', 'curl', actions.copyCurl, 'Copy as curl')];
    this.bar.setAttribute('aria-label', `Progress of ${prompt}`);
    this.pictures = h('div', { class: 'pictures', 'data-count': count }, ...this.tiles.map((tile) => tile.element));
    this.pictures.style.setProperty('--width', `${shape.width}px`);
    const actionsRow = h('div', { class: 'actions' }, ...this.copies, this.cancel);
    this.element = h(
      'article',
      { class: 'card drawing-card', 'aria-label': prompt },
      h('div', { class: 'head' }, h('h2', {}, prompt), actionsRow),
      this.pictures,
      this.bar,
      this.status,
      this.choices,
      this.legend,
      this.done,
    );
  }

  /** Pixels go to their picture; everything else is in the state. */
  onEvent(event: DrawEvent, state: DrawingState): void {
    if (event.type === 'preview') this.tiles[event.image]?.preview(event);
    if (event.type === 'failed') this.showChoices(event.error.suggestions ?? []);
    if (event.type === 'image') this.tiles[event.image]?.finish(event.mime, event.bytes, state.pictures[event.image]?.seed ?? 0);
  }

  update(state: DrawingState): void {
    const over = isOver(state);
    state.pictures.forEach((picture, i) => this.tiles[i]?.update(state, picture, over));
    this.bar.value = state.fraction;
    this.bar.hidden = over;
    // A request that was refused has nothing to show.
    this.pictures.hidden = state.phase === 'failed' && tokensDrawn(state) === 0;
    setText(this.status, statusOf(state));
    this.status.classList.toggle('error', state.phase === 'failed');
    this.element.dataset['phase'] = state.phase;
    this.cancel.hidden = over;
    this.legend.hidden = !hasDrafts(state);
    const words = accelerationInWords(state);
    this.done.hidden = words === null;
    setText(this.done, [words, outputInWords(state)].filter((part) => part !== null).join(' · '));
  }

  private showChoices(suggestions: readonly Suggestion[]): void {
    this.choices.hidden = suggestions.length === 0;
    this.choices.replaceChildren(
      ...suggestions.map(({ prompt, name }) => {
        const chip = h('button', { type: 'button', class: 'chip' }, name);
        chip.addEventListener('click', () => { this.actions.choose(prompt); });
        return chip;
      }),
    );
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
