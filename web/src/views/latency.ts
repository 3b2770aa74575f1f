import type { DrawingState } from '../state/drawing.js';
import { latencyOf, sparkline } from '../state/latency.js';
import { duration } from '../state/words.js';
import { byId, h, setText, svg } from './dom.js';

/** One bar per drawing; in the units of its box. */
const SPARK = { slots: 30, width: 180, height: 28, bar: 4.5 } as const;

const FIGURES = {
  firstRow: 'First row',
  total: 'Total',
  perToken: 'Per token',
  queue: 'Queue',
  rate: 'Server',
} as const;

type Figure = keyof typeof FIGURES;

/** What the newest drawing takes, and how the last ones compare. A figure that nothing measured is a dash. */
export class LatencyPanel {
  private readonly values = new Map<Figure, HTMLElement>();
  private firstLabel: HTMLElement | null = null;
  private readonly spark = svg('svg', { viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, class: 'spark', role: 'img' });

  constructor() {
    const list = byId('figures', HTMLElement);
    for (const [name, label] of Object.entries(FIGURES) as [Figure, string][]) {
      const value = h('dd', {}, '–');
      const term = h('dt', {}, label);
      this.values.set(name, value);
      if (name === 'firstRow') this.firstLabel = term;
      list.append(h('div', {}, term, value));
    }
    list.append(h('div', { class: 'recent' }, h('dt', {}, 'Recent totals'), h('dd', {}, this.spark)));
    this.recent([]);
  }

  update(state: DrawingState, now: number): void {
    const { firstRowMs, totalMs, perTokenMs, queueMs } = latencyOf(state, now);
    // Over plain HTTP there are no rows, only whole pictures with a part of them drawn.
    if (this.firstLabel !== null) setText(this.firstLabel, state.way === 'socket' ? FIGURES.firstRow : 'First partial');
    this.set('firstRow', firstRowMs === null ? '–' : duration(firstRowMs));
    this.set('total', duration(totalMs));
    this.set('perToken', perTokenMs === null ? '–' : duration(perTokenMs));
    const isWaiting = state.phase === 'queued' && state.position !== null && state.position > 0;
    this.set('queue', isWaiting ? `place ${state.position}` : queueMs === null ? '–' : duration(queueMs));
  }

  /** Of the whole server, all its clients together. */
  rate(tokensPerSecond: number | null): void {
    this.set('rate', tokensPerSecond === null ? '–' : `${Math.round(tokensPerSecond)} tokens/s`);
  }

  /** Total times of past drawings, oldest first, in milliseconds. */
  recent(totals: readonly number[]): void {
    const shown = totals.slice(-SPARK.slots);
    this.spark.replaceChildren(...sparkline(shown, SPARK.slots, SPARK.width, SPARK.height).map(({ x, y, height }) => svg('rect', { x, y, height, width: SPARK.bar, rx: 1.2 })));
    const newest = shown.at(-1);
    this.spark.setAttribute('aria-label', newest === undefined ? 'No drawings yet' : `The last ${shown.length} drawings took ${duration(Math.min(...shown))} to ${duration(Math.max(...shown))}, the newest ${duration(newest)}`);
  }

  private set(name: Figure, text: string): void {
    const element = this.values.get(name);
    if (element !== undefined) setText(element, text);
  }
}
