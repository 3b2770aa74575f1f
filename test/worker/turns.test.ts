import { describe, expect, it } from 'vitest';
import { Turns, type Turn } from '../../src/worker/turns.js';

/** A model whose steps all cost the same, with at most one step in the engine. */
class Stepper {
  readonly turn: Turn;
  steps = 0;
  seconds = 0;
  woken = 0;

  constructor(
    turns: Turns,
    readonly cost: number,
  ) {
    this.turn = turns.join(() => {
      this.woken += 1;
    });
  }

  step(): boolean {
    if (!this.turn.mayStep()) return false;
    this.steps += 1;
    this.seconds += this.cost;
    this.turn.charge(this.cost);
    return true;
  }
}

/** Everybody asks in turn, until the engine has worked for so long. */
function run(steppers: readonly Stepper[], seconds: number): void {
  const start = steppers.reduce((sum, stepper) => sum + stepper.seconds, 0);
  while (steppers.reduce((sum, stepper) => sum + stepper.seconds, 0) - start < seconds) {
    // Somebody always may, or the engine would stand still with work to do.
    if (!steppers.map((stepper) => stepper.step()).includes(true)) throw new Error('nobody may step');
  }
}

describe('Turns', () => {
  it('lets one that is alone step as it likes', () => {
    const only = new Stepper(new Turns(), 5);
    for (let i = 0; i < 10; ++i) expect(only.step()).toBe(true);
  });

  it.each([[[0.004, 0.1]], [[0.004, 0.004]], [[0.001, 0.03, 0.25]]])('gives equal time to steps of %j seconds', (costs) => {
    const turns = new Turns();
    const steppers = costs.map((cost) => new Stepper(turns, cost));
    run(steppers, 60);
    const share = 60 / costs.length;
    for (const { seconds } of steppers) expect(Math.abs(seconds - share)).toBeLessThan(0.02 * share + Math.max(...costs));
  });

  it('does not make anybody pay for the time it was alone', () => {
    const turns = new Turns();
    const [first, second] = [new Stepper(turns, 0.05), new Stepper(turns, 0.05)];
    run([first], 30);
    const before = first.seconds;
    run([first, second], 2);
    expect(Math.abs(first.seconds - before - second.seconds)).toBeLessThan(0.2);
  });

  it('does not let anybody save up while it has nothing to do', () => {
    const turns = new Turns();
    const [busy, idle, third] = [new Stepper(turns, 0.01), new Stepper(turns, 0.01), new Stepper(turns, 0.01)];
    run([busy, idle, third], 1);
    idle.turn.rest();
    run([busy, third], 30);
    const [before, idleBefore] = [busy.seconds, idle.seconds];
    run([busy, idle, third], 3);
    expect(idle.seconds - idleBefore).toBeLessThan(1.1);
    expect(busy.seconds - before).toBeGreaterThan(0.9);
  });

  it('wakes those it refused as soon as it is their turn, and when the others have no more to do', () => {
    const turns = new Turns();
    const [first, second] = [new Stepper(turns, 0.05), new Stepper(turns, 0.05)];
    first.turn.mayStep();
    second.turn.mayStep();
    // Two steps over what the second has: refused until the first has had as much.
    while (second.step());
    expect(second.step()).toBe(false);
    const before = second.woken;
    while (first.step());
    expect(second.woken).toBeGreaterThan(before);

    while (second.step());
    const left = second.woken;
    first.turn.leave();
    expect(second.woken).toBeGreaterThan(left);
    expect(second.step()).toBe(true);
  });
});
