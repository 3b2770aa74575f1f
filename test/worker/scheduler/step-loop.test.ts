import { afterEach, describe, expect, it } from 'vitest';
import { wrapEngine } from '../../../src/engine/engine.js';
import type { SequenceSpec } from '../../../src/engine/native-types.js';
import { EngineError } from '../../../src/errors.js';
import type { SequenceEvent } from '../../../src/worker/scheduler/apply-step.js';
import { createSchedulerState } from '../../../src/worker/scheduler/state.js';
import { StepLoop } from '../../../src/worker/scheduler/step-loop.js';
import { FakeEngine } from '../../support/fake-engine.js';
import { sequenceSpec } from '../../support/specs.js';
import { until } from '../../support/until.js';

interface Watched {
  events: SequenceEvent['kind'][];
  /** Settles with the last event or the error. */
  end: Promise<'image' | EngineError>;
}

class Rig {
  readonly engine: FakeEngine;
  readonly failures: string[] = [];
  loop!: StepLoop;

  constructor(stepMs = 0, roundSeconds = 0.01) {
    this.engine = new FakeEngine({ blockTokens: 4, pixelFactor: 2, stepMs, roundSeconds });
  }

  async start(numBlocks = 64): Promise<void> {
    const limits = { numBlocks, blockTokens: 4, maxStepTokens: 64, maxRunning: 8, maxVaePerStep: 2 };
    const model = await wrapEngine(this.engine).load('fake', { kvBlocks: numBlocks, maxStepTokens: 64 });
    this.loop = new StepLoop(createSchedulerState(limits), model, {
      onStep: () => undefined,
      onStepFailed: (_plan, error) => this.failures.push(error.nativeCode),
    });
    this.loop.start();
  }

  add(spec: SequenceSpec): Watched {
    const events: SequenceEvent['kind'][] = [];
    const end = new Promise<'image' | EngineError>((resolve) => {
      this.loop.add(spec, {
        onEvent: (event) => {
          events.push(event.kind);
          if (event.kind === 'image') resolve('image');
        },
        onError: resolve,
      });
    });
    return { events, end };
  }
}

let rig: Rig;

afterEach(async () => {
  await rig.loop.stop();
});

describe('StepLoop', () => {
  it('refuses work after stop, and fails what was live', async () => {
    rig = new Rig(5);
    await rig.start();
    const { end } = rig.add(sequenceSpec(1));
    await rig.loop.stop();
    expect(await end).toMatchObject({ nativeCode: 'closed', code: 'draining' });
    expect(() => {
      rig.loop.add(sequenceSpec(2), { onEvent: () => undefined, onError: () => undefined });
    }).toThrow(/stopped/);
  });

  it('publishes started, every token, then the picture', async () => {
    rig = new Rig();
    await rig.start();
    const { events, end } = rig.add(sequenceSpec(1));
    expect(await end).toBe('image');
    expect(events).toEqual(['started', 'tokens', 'tokens', 'tokens', 'tokens', 'tokens', 'tokens', 'image']);
  });

  it('draws several tokens a step where steps are short', async () => {
    rig = new Rig(0, 0.001);
    await rig.start();
    const spec = { gridHeight: 5, gridWidth: 4 };
    await rig.add(sequenceSpec(1, spec)).end;
    await rig.add(sequenceSpec(2, spec)).end;
    const counts = rig.engine.plans.flatMap((plan) => plan.decode.filter((entry) => entry.sequence === 2).map((entry) => entry.rounds));
    expect(counts).toEqual([4, 4, 4, 4, 4]);
  });

  it('hands the engine the next step while one runs, and never more', async () => {
    rig = new Rig(2);
    await rig.start();
    await Promise.all([1, 2, 3].map((id) => rig.add(sequenceSpec(id)).end));
    expect(rig.engine.deepestQueue).toBe(2);
  });

  it('sleeps when there is nothing to do, and wakes for the next sequence', async () => {
    rig = new Rig();
    await rig.start();
    await rig.add(sequenceSpec(1)).end;
    await settle();
    const steps = rig.engine.plans.length;
    await settle();
    expect(rig.engine.plans.length).toBe(steps);
    expect(await rig.add(sequenceSpec(2)).end).toBe('image');
  });

  it('frees a cancelled sequence within one step and tells nobody', async () => {
    rig = new Rig(4);
    await rig.start();
    const cancelled = rig.add(sequenceSpec(1));
    const other = rig.add(sequenceSpec(2));
    await until(() => cancelled.events.length >= 3);
    const steps = rig.engine.plans.length;
    rig.loop.cancel(1);
    expect(rig.loop.state.byId.has(1)).toBe(false);
    await until(() => !rig.engine.live.has(1));
    expect(await other.end).toBe('image');
    // One step runs and one waits behind it; the next plan releases. (Counted in plans: the poll above may be late.)
    const releasedAt = rig.engine.plans.findIndex((plan, index) => index >= steps && plan.release.includes(1));
    expect(releasedAt).not.toBe(-1);
    expect(releasedAt - steps).toBeLessThanOrEqual(2);
    expect(cancelled.events).not.toContain('image');
    rig.loop.cancel(1);
    rig.loop.cancel(99);
  });

  it.each(['internal', 'out_of_memory', 'invalid_plan'] as const)('fails the sequences of a step that failed with %s, and no others', async (code) => {
    rig = new Rig();
    await rig.start();
    rig.engine.failNextStep(code);
    const lost = rig.add(sequenceSpec(1));
    expect(await lost.end).toMatchObject({ nativeCode: code });
    expect(rig.failures).toEqual([code]);
    expect(await rig.add(sequenceSpec(2)).end).toBe('image');
    await settle();
    expect(rig.engine.live.size).toBe(0);
    rig.loop.state.cache.clear();
    expect(rig.loop.state.pool.numUsed).toBe(0);
  });

  it.each(['internal', 'invalid_plan'] as const)('lets those who only waited go on after %s', async (code) => {
    // Room for one picture at a time: the second waits while the first fails.
    rig = new Rig(4);
    await rig.start(10);
    const first = rig.add(sequenceSpec(1));
    const second = rig.add(sequenceSpec(2));
    await until(() => first.events.includes('tokens'));
    rig.engine.failNextStep(code);
    expect(await first.end).toBeInstanceOf(EngineError);
    expect(await second.end).toBe('image');
  });

  it('stops when the engine is closed under it', async () => {
    rig = new Rig();
    await rig.start();
    rig.engine.close();
    expect(await rig.add(sequenceSpec(1)).end).toMatchObject({ nativeCode: 'closed' });
  });
});

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20));
}
