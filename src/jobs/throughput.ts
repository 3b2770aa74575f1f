/**
 * How long a measurement counts: ten seconds of work ago weighs 1/e. Long against a step, short against a queue: speed
 * grows with the batch, and a burst after single requests should not be judged by them for long.
 */
const MEMORY_SECONDS = 10;

/**
 * Image tokens per second while there is work, over the recent past. Idle time is not in it: an idle server is not a
 * slow one. Times are handed in, in seconds from any origin.
 */
export class Throughput {
  private tokens = 0;
  private seconds = 0;
  /** End of what was counted; null while idle. */
  private countedUntil: number | null = null;

  /** There is work from now on. */
  begin(now: number): void {
    this.countedUntil ??= now;
  }

  drawn(tokens: number, now: number): void {
    const elapsed = Math.max(0, now - (this.countedUntil ?? now));
    this.countedUntil = now;
    const kept = Math.exp(-elapsed / MEMORY_SECONDS);
    this.tokens = this.tokens * kept + tokens;
    this.seconds = this.seconds * kept + elapsed;
  }

  /** Nothing is left to do. */
  end(): void {
    this.countedUntil = null;
  }

  /** Null until something was measured. */
  get tokensPerSecond(): number | null {
    return this.seconds > 0 && this.tokens > 0 ? this.tokens / this.seconds : null;
  }
}
