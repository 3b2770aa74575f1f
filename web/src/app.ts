import type { DrawEvent, Drawing } from './protocol/events.js';
import { isLast } from './protocol/events.js';
import type { ImagesRequest } from './protocol/frames.js';
import type { Model } from './protocol/http.js';
import { randomId } from './protocol/random-id.js';
import type { RateMeter } from './protocol/rate-meter.js';
import type { Transport } from './protocol/transport.js';
import { isOver, newDrawing, reduce, type DrawingState } from './state/drawing.js';
import { latencyOf } from './state/latency.js';
import { drawnBy, partialImagesOf } from './state/models.js';
import { captionOf, curlOf, fragmentOf, requestOf, seedsOf, type Settings } from './state/settings.js';
import { statusOf } from './state/words.js';
import type { HistoryEntry } from './storage/history.js';
import { thumbnailOf } from './storage/thumbnail.js';
import type { Announcer } from './views/announcer.js';
import { copyText } from './views/clipboard.js';
import { DrawingCard } from './views/drawing-card.js';
import type { LatencyPanel } from './views/latency.js';

export interface AppParts {
  transport: Transport;
  meter: RateMeter;
  latency: LatencyPanel;
  announcer: Announcer;
  stage: HTMLElement;
  /** Finished pictures, for the history. */
  onFinished: (entries: HistoryEntry[]) => void;
  /** The server suggested another prompt than these settings have, and somebody took it. */
  onChosen: (settings: Settings) => void;
}

/** A request from its sending until it makes room for the next one on the stage. */
interface Live {
  settings: Settings;
  request: ImagesRequest;
  model: Model;
  state: DrawingState;
  card: DrawingCard;
  handle: Drawing | null;
  images: Map<number, { mime: string; bytes: Uint8Array<ArrayBuffer> }>;
  /** The last thing said aloud about it. */
  said: string;
}

const NARROW = matchMedia('(max-width: 56rem)');
const CALM = matchMedia('(prefers-reduced-motion: reduce)');

/** The stage: any number of drawings at once, newest first. Events change state; the next frame shows it. */
export class App {
  private live: Live[] = [];
  private isFrameAsked = false;

  constructor(private readonly parts: AppParts) {}

  draw(settings: Settings, model: Model): void {
    this.live.filter(({ state }) => isOver(state)).forEach((old) => { old.card.dispose(); });
    this.live = this.live.filter(({ state }) => !isOver(state));
    const request = requestOf(settings, model);
    const shape = drawnBy(model, settings.size ?? model.default_size);
    const card = new DrawingCard(request.prompt, settings.n, shape, {
      cancel: () => { live.handle?.cancel(); },
      copyLink: () => { void this.copy(`${location.origin}${location.pathname}#${fragmentOf(settings)}`, 'Link copied'); },
      copyCurl: () => { void this.copy(curlOf(request, location.origin), 'Command copied'); },
      choose: (prompt) => { this.parts.onChosen({ ...settings, prompt }); },
    });
    const state = newDrawing({ way: this.parts.transport.name, seeds: seedsOf(settings), tokens: shape.count, unit: shape.unit, now: performance.now() });
    const live: Live = { settings, request, model, state, card, handle: null, images: new Map(), said: '' };
    this.live.unshift(live);
    this.parts.stage.prepend(card.element);
    // Where the form is above the stage, the pictures would be out of sight.
    if (NARROW.matches) card.element.scrollIntoView({ behavior: CALM.matches ? 'auto' : 'smooth', block: 'start' });
    history.replaceState(null, '', `#${fragmentOf(settings)}`);
    this.parts.meter.start();
    live.handle = this.parts.transport.draw(request, partialImagesOf(model), (event) => { this.onEvent(live, event); });
    this.askFrame();
  }

  /** The newest drawing under way, if there is one. */
  cancelNewest(): boolean {
    const newest = this.live.find(({ state }) => !isOver(state));
    newest?.handle?.cancel();
    return newest !== undefined;
  }

  /** The page goes away for good: nobody will look at these. */
  cancelAll(): void {
    for (const { handle, state } of this.live) if (!isOver(state)) handle?.cancel();
  }

  private onEvent(live: Live, event: DrawEvent): void {
    if (isOver(live.state)) return;
    live.state = { ...reduce(live.state, event, performance.now()), way: this.parts.transport.name };
    if (event.type === 'image') live.images.set(event.image, event);
    live.card.onEvent(event, live.state);
    if (isLast(event)) {
      this.parts.meter.stop();
      void this.remember(live);
    }
    this.say(live);
    this.askFrame();
  }

  private askFrame(): void {
    if (this.isFrameAsked) return;
    this.isFrameAsked = true;
    requestAnimationFrame(() => {
      this.isFrameAsked = false;
      const now = performance.now();
      for (const { card, state } of this.live) card.update(state);
      const newest = this.live[0];
      if (newest !== undefined) this.parts.latency.update(newest.state, now);
      // The total goes on by itself.
      if (this.live.some(({ state }) => !isOver(state))) this.askFrame();
    });
  }

  /** Beginnings, halves and ends: who listens to the page does not want every percent. */
  private say(live: Live): void {
    const { state } = live;
    const isHalf = state.phase === 'drawing' && state.fraction >= 0.5;
    const key = `${state.phase}${isHalf ? ' half' : ''}${state.isInterrupted ? ' lost' : ''}${state.phase === 'queued' ? String(state.position) : ''}`;
    if (key === live.said) return;
    live.said = key;
    this.parts.announcer.say(isHalf ? 'Half of it is drawn' : `${live.request.prompt}: ${statusOf(state)}`);
  }

  private async remember({ settings, model, state, images }: Live): Promise<void> {
    const { firstRowMs, totalMs, perTokenMs } = latencyOf(state, performance.now());
    const entries = await Promise.all(
      [...images].map(async ([index, { mime, bytes }]): Promise<HistoryEntry> => {
        const seed = state.pictures[index]?.seed ?? settings.seed;
        const thumbnail = await thumbnailOf(mime, bytes);
        // Pictures of one request in their own order, the first one newest.
        const createdAt = Date.now() - index / 100;
        return { id: randomId(), createdAt, settings: { ...settings, seed, n: 1, isSeedLocked: true }, model: model.id, thumbnail, isFirst: index === 0, firstRowMs, totalMs, perTokenMs };
      }),
    );
    if (entries.length > 0) this.parts.onFinished(entries);
  }

  private async copy(text: string, success: string): Promise<void> {
    this.parts.announcer.toast((await copyText(text)) ? success : 'The browser did not allow copying');
  }
}

/** What the history's button says aloud. */
export function restoredSentence(settings: Settings): string {
  return `${captionOf(settings)}, seed ${settings.seed}: brought back. Draw gives the same picture.`;
}

/** A link or a picture of another day may be of a model that is gone. */
export function absentSentence(wanted: string, instead: string): string {
  return `This server has no model “${wanted}”: ${instead} draws something else from the same words.`;
}
