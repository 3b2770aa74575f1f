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
  private readonly labels = new Map<Figure, HTMLElement>();
  private counted: 'tokens' | 'timesteps' = 'tokens';
  private readonly spark = svg('svg', { viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, class: 'spark', role: 'img' });

  constructor() {
    const list = byId('figures', HTMLElement);
    for (const [name, label] of Object.entries(FIGURES) as [Figure, string][]) {
      const value = h('dd', {}, '–');
      const term = h('dt', {}, label);
      this.values.set(name, value);
      this.labels.set(name, term);
      list.append(h('div', {}, term, value));
    }
    list.append(h('div', { class: 'recent' }, h('dt', {}, 'Recent totals'), h('dd', {}, this.spark)));
    this.recent([]);
  }

  update(state: DrawingState, now: number): void {
    const { firstRowMs, totalMs, perTokenMs, queueMs } = latencyOf(state, now);
    const isPass = state.unit === 'pass';
    this.counted = isPass ? 'timesteps' : 'tokens';
    // Over plain HTTP there are no rows, only whole pictures with a part of them drawn.
    this.label('firstRow', isPass ? 'First pass' : state.way === 'socket' ? FIGURES.firstRow : 'First partial');
    this.label('perToken', isPass ? 'Per pass' : FIGURES.perToken);
    this.set('firstRow', firstRowMs === null ? '–' : duration(firstRowMs));
    this.set('total', duration(totalMs));
    this.set('perToken', perTokenMs === null ? '–' : duration(perTokenMs));
    const isWaiting = state.phase === 'queued' && state.position !== null && state.position > 0;
    this.set('queue', isWaiting ? `place ${state.position}` : queueMs === null ? '–' : duration(queueMs));
  }

  /** Of the whole server, all its clients together. Models that draw in passes are counted in timesteps; the newest drawing says which it is. */
  rate(perSecond: number | null): void {
    this.set('rate', perSecond === null ? '–' : `${Math.round(perSecond)} ${this.counted}/s`);
  }

  /** Total times of past drawings, oldest first, in milliseconds. */
  recent(totals: readonly number[]): void {
    const shown = totals.slice(-SPARK.slots);
    this.spark.replaceChildren(...sparkline(shown, SPARK.slots, SPARK.width, SPARK.height).map(({ x, y, height }) => svg('rect', { x, y, height, width: SPARK.bar, rx: 1.2 })));
    const newest = shown.at(-1);
    this.spark.setAttribute('aria-label', newest === undefined ? 'No drawings yet' : `The last ${shown.length} drawings took ${duration(Math.min(...shown))} to ${duration(Math.max(...shown))}, the newest ${duration(newest)}`);
  }

  private label(name: Figure, text: string): void {
    const element = this.labels.get(name);
    if (element !== undefined) setText(element, text);
  }

  private set(name: Figure, text: string): void {
    const element = this.values.get(name);
    if (element !== undefined) setText(element, text);
  }
}
