/**
 * How long an engine has been in the step it is at. Its thread takes the steps of all its models in the order they came, so a
 * step begins when it is handed over or, where others are before it, when the last of those is settled.
 */
export class StepClock {
  private unsettled = 0;
  private beganMs = 0;

  constructor(private readonly nowMs: () => number = () => performance.now()) {}

  /** 0 while the engine rests. */
  get seconds(): number {
    return this.unsettled === 0 ? 0 : (this.nowMs() - this.beganMs) / 1000;
  }

  async time<T>(step: () => Promise<T>): Promise<T> {
    if (this.unsettled === 0) this.beganMs = this.nowMs();
    this.unsettled += 1;
    try {
      return await step();
    } finally {
      this.unsettled -= 1;
      this.beganMs = this.nowMs();
    }
  }
}
