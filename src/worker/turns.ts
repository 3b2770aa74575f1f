/**
 * Whose step comes next where several models share one engine thread: equal shares of its time, by deficit round robin.
 * No clock and no I/O: costs are what the engine says its steps took.
 *
 * A model with work may step while its balance is above 0; what a step cost is taken off when it is known. When nobody with
 * work has anything left, all of them are given the same amount. So cheap steps come more often than dear ones, and one that
 * overdrew its balance waits until the others had as much. A model alone steps as it likes and owes nothing; one without work
 * saves nothing up.
 */

/** Long against a short step, so that turns do not change with every one; short against what people notice. */
const QUANTUM_SECONDS = 0.02;

export class Turns {
  private readonly turns = new Set<Turn>();

  /** `wake` is called when a turn that was refused may come. */
  join(wake: () => void): Turn {
    const turn = new Turn(this, wake);
    this.turns.add(turn);
    return turn;
  }

  /** Whether `turn`, which has work, may step now. Others are woken where that changes theirs. */
  decide(turn: Turn): boolean {
    const competing = [...this.turns].filter((other) => other.hasWork);
    if (competing.length <= 1) {
      turn.balance = 0;
      return true;
    }
    const most = Math.max(...competing.map(({ balance }) => balance));
    if (most <= 0) {
      const rounds = Math.floor(-most / QUANTUM_SECONDS) + 1;
      for (const other of competing) other.balance += rounds * QUANTUM_SECONDS;
      this.wakeOthers(turn);
    }
    return turn.balance > 0;
  }

  leave(turn: Turn): void {
    this.turns.delete(turn);
    this.wakeOthers(turn);
  }

  wakeOthers(turn: Turn): void {
    for (const other of this.turns) if (other !== turn && other.hasWork) other.wake();
  }
}

/** One model's place among those that share the engine. */
export class Turn {
  hasWork = false;
  /** Seconds of engine time. */
  balance = 0;

  constructor(
    private readonly turns: Turns,
    readonly wake: () => void,
  ) {}

  /** There is a step to make: may it be now? */
  mayStep(): boolean {
    this.hasWork = true;
    return this.turns.decide(this);
  }

  /** A step took so much of the engine's time. */
  charge(seconds: number): void {
    this.balance -= seconds;
    // It may be the others' turn now, and they sleep.
    if (this.balance <= 0) this.turns.wakeOthers(this);
  }

  /** Nothing left to do. */
  rest(): void {
    if (!this.hasWork) return;
    this.hasWork = false;
    this.balance = 0;
    this.turns.wakeOthers(this);
  }

  leave(): void {
    this.rest();
    this.turns.leave(this);
  }
}
