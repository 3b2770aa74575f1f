import { describe, expect, it } from 'vitest';
import type { SequenceEvent } from '../../../src/worker/scheduler/apply-step.js';
import { addSequence, createSchedulerState, removeSequence } from '../../../src/worker/scheduler/state.js';
import { createHarness, leakedBlocks } from '../../support/scheduler-harness.js';
import { promptRow, randomIntegers, sequenceSpec } from '../../support/specs.js';
import { peakBlocksOf, randomPreviews, watchAlone, Watched } from '../../support/watched.js';

describe('schedule', () => {
  it('refuses a sequence that could never finish', () => {
    const state = createSchedulerState({ numBlocks: 4, blockTokens: 4, maxStepTokens: 16, maxRunning: 4, maxVaePerStep: 1 });
    expect(() => addSequence(state, sequenceSpec(1))).toThrow(/needs 10 blocks/);
    expect(state.waiting.size).toBe(0);
  });

  it('refuses an id that is live', () => {
    const state = createSchedulerState({ numBlocks: 64, blockTokens: 4, maxStepTokens: 16, maxRunning: 4, maxVaePerStep: 1 });
    addSequence(state, sequenceSpec(1));
    expect(() => addSequence(state, sequenceSpec(1))).toThrow(/already live/);
  });

  it('refuses limits that cannot hold a full batch', () => {
    expect(() =>
      createSchedulerState({ numBlocks: 4, blockTokens: 4, maxStepTokens: 11, maxRunning: 4, maxVaePerStep: 1 }),
    ).toThrow(RangeError);
  });

  it('prefills, draws one token a step, decodes the picture, releases', async () => {
    const { state, step } = await createHarness();
    addSequence(state, sequenceSpec(1));
    const first = await step();
    expect(first.plan.admit.map((spec) => spec.id)).toEqual([1]);
    expect(first.plan.prefill.map(({ row, begin, end }) => [row, begin, end])).toEqual([
      [0, 0, 12],
      [1, 0, 7],
    ]);
    expect(first.events).toEqual([]);
    for (let emitted = 1; emitted <= 6; emitted += 1) {
      expect((await step()).events).toEqual([{ kind: 'tokens', sequence: 1, count: 1, emitted, total: 6 }]);
    }
    const picture = await step();
    expect(picture.plan.vae).toEqual([{ sequence: 1, tokens: 6 }]);
    expect(picture.events[0]?.kind).toBe('image');
    expect((await step()).plan.release).toEqual([1]);
    expect(leakedBlocks(state)).toBe(0);
  });

  it('draws several tokens a step, but one while somebody waits or prefills', async () => {
    const { state, submit, settle } = await createHarness();
    addSequence(state, sequenceSpec(1, { gridHeight: 3, gridWidth: 3 }));
    const step = async (burst: number): Promise<SequenceEvent[]> => {
      submit(burst);
      return settle();
    };
    await step(4);
    expect(await step(4)).toEqual([{ kind: 'tokens', sequence: 1, count: 4, emitted: 4, total: 9 }]);
    addSequence(state, sequenceSpec(2, { gridHeight: 1, gridWidth: 2 }));
    expect(await step(4)).toMatchObject([{ sequence: 1, count: 1, emitted: 5 }]);
    // Both end within the step, at different rounds.
    expect(await step(4)).toMatchObject([
      { sequence: 1, count: 4, emitted: 9 },
      { sequence: 2, count: 2, emitted: 2 },
    ]);
    expect((await step(4)).map((event) => event.kind)).toEqual(['image', 'image']);
    await step(1);
    expect(leakedBlocks(state)).toBe(0);
  });

  it('splits a prompt over steps under the token budget, and lets decodes go first', async () => {
    const { state, step } = await createHarness({ maxStepTokens: 12, maxRunning: 4 });
    addSequence(state, sequenceSpec(1, { promptRows: [promptRow(1, 4)] }));
    await step();
    addSequence(state, sequenceSpec(2, { promptRows: [promptRow(2, 30)] }));
    const { plan } = await step();
    expect(plan.decode.map((entry) => entry.sequence)).toEqual([1]);
    expect(plan.prefill.map(({ sequence, begin, end }) => [sequence, begin, end])).toEqual([[2, 0, 11]]);
    const next = await step();
    expect(next.plan.prefill.map(({ begin, end }) => [begin, end])).toEqual([[11, 22]]);
  });

  it('computes an equal prompt once: the others attach and compute the last token', async () => {
    const { state, step, drain } = await createHarness();
    const promptRows = [promptRow(5, 14), promptRow(6, 9)];
    for (const id of [1, 2, 3]) addSequence(state, sequenceSpec(id, { promptRows }));
    const first = await step();
    expect(first.plan.admit).toHaveLength(3);
    expect(first.plan.prefill.map(({ sequence }) => sequence)).toEqual([1, 1]);
    const second = await step();
    expect(second.plan.prefill.map(({ sequence, begin, end }) => [sequence, begin, end])).toEqual([
      [2, 13, 14],
      [2, 8, 9],
      [3, 13, 14],
      [3, 8, 9],
    ]);
    expect(state.cache.stats.hitTokens).toBe(2 * (13 + 8));
    expect((await drain()).size).toBe(3);
    expect(leakedBlocks(state)).toBe(0);
  });

  it('copies a shared block before the first write into it', async () => {
    const { state, step } = await createHarness();
    const promptRows = [promptRow(5, 6)];
    addSequence(state, sequenceSpec(1, { promptRows }));
    await step();
    addSequence(state, sequenceSpec(2, { promptRows }));
    const { plan } = await step();
    // Sequence 1 writes its first image token into the block the cache shares, sequence 2 its last prompt token.
    expect(plan.copies).toHaveLength(4);
    expect(plan.copies[0]).toBe(plan.copies[2]);
    expect(plan.copies[1]).not.toBe(plan.copies[3]);
  });

  it('keeps the unconditional prompt across requests', async () => {
    const { state, step, drain } = await createHarness();
    const unconditional = promptRow(999, 7);
    addSequence(state, sequenceSpec(1, { promptRows: [promptRow(1, 10), unconditional] }));
    await drain();
    addSequence(state, sequenceSpec(2, { promptRows: [promptRow(2, 10), unconditional] }));
    const { plan } = await step();
    expect(plan.prefill.map(({ row, begin, end }) => [row, begin, end])).toEqual([
      [0, 0, 10],
      [1, 6, 7],
    ]);
  });

  it('handles two equal rows in one sequence', async () => {
    const { state, drain } = await createHarness();
    addSequence(state, sequenceSpec(1, { promptRows: [promptRow(1, 9), promptRow(1, 9)] }));
    expect((await drain()).size).toBe(1);
    expect(leakedBlocks(state)).toBe(0);
  });

  it('never shares rows with an input picture', async () => {
    const { state, step } = await createHarness();
    const overrides = { promptRows: [promptRow(1, 9)], inputImageTokens: new Float32Array(16) };
    addSequence(state, sequenceSpec(1, overrides));
    addSequence(state, sequenceSpec(2, overrides));
    expect((await step()).plan.prefill.map(({ begin, end }) => [begin, end])).toEqual([
      [0, 9],
      [0, 9],
    ]);
    expect(state.cache.size).toBe(0);
  });

  it('preempts the youngest and recomputes prompt and drawn tokens in one go', async () => {
    // Two pictures of 2 rows and 5 blocks each at the end, and a pool for one and a half.
    const shape = { gridHeight: 3, gridWidth: 4 };
    const { state, step, drain, engine } = await createHarness({ numBlocks: 16, maxRunning: 2 });
    for (const id of [1, 2]) addSequence(state, sequenceSpec(id, { ...shape, promptRows: [promptRow(id, 8), promptRow(id + 50, 8)] }));
    while (state.numPreemptions === 0) await step();
    expect(state.running.map((sequence) => sequence.spec.id)).toEqual([1]);
    const emitted = state.byId.get(2)!.emitted;
    expect(emitted).toBeGreaterThan(0);
    const pictures = await drain();
    expect(pictures.size).toBe(2);
    const recompute = engine.plans.flatMap((plan) => plan.prefill).filter((entry) => entry.sequence === 2 && entry.end > 8);
    expect(recompute.map(({ end }) => end)).toEqual([8 + emitted, 8 + emitted]);
    expect(engine.plans.filter((plan) => plan.admit.some((spec) => spec.id === 2))).toHaveLength(1);
    expect(leakedBlocks(state)).toBe(0);
  });

  it('frees blocks of a removed sequence at once and its engine state in the next step', async () => {
    const { state, step, engine } = await createHarness();
    addSequence(state, sequenceSpec(1));
    addSequence(state, sequenceSpec(2));
    await step();
    await step();
    const used = state.pool.numUsed;
    removeSequence(state, state.byId.get(1)!);
    expect(state.pool.numUsed).toBeLessThan(used);
    await step();
    expect([...engine.live.keys()]).toEqual([2]);
  });

  it('decodes at most a few pictures per step', async () => {
    const { state, step } = await createHarness({ maxVaePerStep: 2 });
    for (const id of [1, 2, 3]) addSequence(state, sequenceSpec(id, { gridHeight: 1, gridWidth: 1, promptRows: [promptRow(id, 5)] }));
    await step();
    await step();
    expect((await step()).plan.vae).toHaveLength(2);
    expect((await step()).plan.vae).toHaveLength(1);
  });
});

describe('schedule, whatever arrives', () => {
  it.each(Array.from({ length: 40 }, (_, seed) => seed))('draws every picture as if alone, and leaks nothing (seed %i)', async (seed) => {
    const below = randomIntegers(seed);
    const blockTokens = [2, 4, 16][below(3)]!;
    const specs = Array.from({ length: 4 + below(20) }, (_, index) => randomSpec(index + 1, below));
    // From "the largest picture alone just fits" (every third time) to plenty.
    const largest = Math.max(...specs.map((spec) => peakBlocksOf(spec, blockTokens)));
    const limits = { numBlocks: largest + below(3) * below(2 * largest), blockTokens, maxRunning: 1 + below(10), maxStepTokens: 30 + below(60), maxVaePerStep: 1 + below(3) };

    const wishes = new Map(specs.map((spec) => [spec.id, randomPreviews(spec, below)]));
    const solo = await watchAlone(specs, wishes, limits);

    const { state, submit, settle, drain, engine } = await createHarness(limits);
    const cancelled = new Set<number>();
    const crowd = new Map(specs.map((spec) => [spec.id, new Watched()]));
    const see = (event: SequenceEvent): void => {
      crowd.get(event.sequence)!.see(event);
    };
    for (const spec of specs) {
      addSequence(state, spec, wishes.get(spec.id)!);
      // Any number of steps in flight, and cancels that hit them.
      for (let steps = below(4); steps > 0; steps -= 1) submit(1 + below(6));
      const victim = state.byId.get(1 + below(specs.length));
      if (victim !== undefined && below(5) === 0) {
        engine.cancel(1, victim.spec.id);
        removeSequence(state, victim);
        cancelled.add(victim.spec.id);
      }
      for (let steps = below(5); steps > 0; steps -= 1) (await settle()).forEach(see);
    }
    await drain({ maxSteps: 20_000, ahead: 1 + below(3), burst: 1 + below(9), see });
    for (const { id } of specs) crowd.get(id)!.expectLike(solo.get(id)!, wishes.get(id)!, cancelled.has(id));
    expect(engine.live.size).toBe(0);
    expect(leakedBlocks(state)).toBe(0);
  });

  it('serves in order of arrival although it preempts', async () => {
    const { state, drain, engine } = await createHarness({ numBlocks: 14, maxRunning: 8 });
    for (let id = 1; id <= 12; id += 1) addSequence(state, sequenceSpec(id, { promptRows: [promptRow(id, 6)], gridHeight: 4, gridWidth: 4 }));
    await drain();
    expect(state.numPreemptions).toBeGreaterThan(0);
    // Preempted work is done again; with the margin at admission that stays a fraction of the whole.
    const decodes = engine.plans.reduce((sum, plan) => sum + plan.decode.length, 0);
    expect(decodes).toBe(12 * 16);
    expect(engine.plans.flatMap((plan) => plan.vae.map((entry) => entry.sequence))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(state.numPreemptions).toBeLessThan(24);
  });
});

function randomSpec(id: number, below: (limit: number) => number): ReturnType<typeof sequenceSpec> {
  const conditional = promptRow(below(4), 2 + below(24));
  const unconditional = promptRow(100 + below(2), 2 + below(6));
  const rows = [[conditional], [conditional, unconditional], [conditional, conditional, unconditional]][below(3)]!;
  return sequenceSpec(id, { promptRows: rows, gridHeight: 1 + below(4), gridWidth: 1 + below(4), seed: below(1000), timesteps: 1 + below(5) });
}
