import type { DrawingState } from '../state/drawing.js';
import { latencyOf, sparkline } from '../state/latency.js';
import { duration } from '../state/words.js';
import { byId, h, setText, svg } from './dom.js';

const SPARK = { width: 150, height: 26 } as const;
/** Drawings in the sparkline. */
const SPARK_LENGTH = 30;

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
  private readonly spark = svg('svg', { viewBox: `-3 -3 ${SPARK.width + 6} ${SPARK.height + 6}`, class: 'spark', role: 'img' });

  constructor() {
    const list = byId('figures', HTMLElement);
    for (const [name, label] of Object.entries(FIGURES) as [Figure, string][]) {
      const value = h('dd', {}, '–');
      this.values.set(name, value);
      list.append(h('div', {}, h('dt', {}, label), value));
    }
    list.append(h('div', { class: 'recent' }, h('dt', {}, 'Recent totals'), h('dd', {}, this.spark)));
    this.recent([]);
  }

  update(state: DrawingState, now: number): void {
    const { firstRowMs, totalMs, perTokenMs, queueMs } = latencyOf(state, now);
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
    const shown = totals.slice(-SPARK_LENGTH);
    const points = sparkline(shown, SPARK.width, SPARK.height);
    const last = points.at(-1);
    this.spark.replaceChildren(
      svg('polyline', { points: points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ') }),
      ...(last === undefined ? [] : [svg('circle', { cx: last.x, cy: last.y, r: 2.5 })]),
    );
    const newest = shown.at(-1);
    this.spark.setAttribute('aria-label', newest === undefined ? 'No drawings yet' : `The last ${shown.length} drawings took ${duration(Math.min(...shown))} to ${duration(Math.max(...shown))}, the newest ${duration(newest)}`);
  }

  private set(name: Figure, text: string): void {
    const element = this.values.get(name);
    if (element !== undefined) setText(element, text);
  }
}
