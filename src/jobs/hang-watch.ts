export interface HangLimits {
  /** Seconds without any message. Its event loop never works for long, so silence is an illness. */
  silenceSeconds: number;
  /** Seconds in one engine step. Steps of large models on small machines take long; none takes this long. */
  stepSeconds: number;
}

/** Steps may take this many times as long as silence. */
const STEP_FACTOR = 10;

export function hangLimits(silenceSeconds: number): HangLimits {
  return { silenceSeconds, stepSeconds: STEP_FACTOR * silenceSeconds };
}

/**
 * Tells a hung worker from a busy one. Time is counted in ticks of the watcher, one a second: when the whole machine
 * stands still (a suspended laptop, a frozen container), both do, and nobody is blamed.
 */
export class HangWatch {
  private silentTicks = 0;
  private stepSeconds = 0;

  constructor(private readonly limits: HangLimits) {}

  heard(): void {
    this.silentTicks = 0;
  }

  inStep(seconds: number): void {
    this.stepSeconds = seconds;
  }

  /** Once a second; true when it hangs. */
  tick(): boolean {
    this.silentTicks += 1;
    return this.silentTicks > this.limits.silenceSeconds || this.stepSeconds > this.limits.stepSeconds;
  }
}
