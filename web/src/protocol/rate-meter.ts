import { imageTokens, tokensPerSecond, type Sample } from '../state/server-rate.js';
import { fetchMetrics } from './http.js';

const INTERVAL_MS = 1000;

/** While something is drawn: the server's own token counter, now and then, as a rate since the drawing began. */
export class RateMeter {
  private first: Sample | null = null;
  private timer: ReturnType<typeof setInterval> | null = null;
  private users = 0;

  constructor(private readonly onRate: (tokensPerSecond: number | null) => void) {}

  start(): void {
    this.users++;
    if (this.timer !== null) return;
    this.first = null;
    void this.sample();
    this.timer = setInterval(() => { void this.sample(); }, INTERVAL_MS);
  }

  stop(): void {
    this.users--;
    if (this.users > 0 || this.timer === null) return;
    clearInterval(this.timer);
    this.timer = null;
    void this.sample();
  }

  private async sample(): Promise<void> {
    const text = await fetchMetrics();
    const tokens = text === null ? null : imageTokens(text);
    if (tokens === null) {
      this.onRate(null);
      return;
    }
    const sample = { at: performance.now(), tokens };
    if (this.first === null || tokens < this.first.tokens) this.first = sample;
    else this.onRate(tokensPerSecond(this.first, sample));
  }
}
