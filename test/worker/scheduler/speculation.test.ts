import { describe, expect, it } from 'vitest';
import type { SequenceSpec, StepPlan } from '../../../src/engine/native-types.js';
import { applyStep, type SequenceEvent } from '../../../src/worker/scheduler/apply-step.js';
import { schedule } from '../../../src/worker/scheduler/schedule.js';
import { addSequence, createSchedulerState, preempt, removeSequence, type SchedulerState } from '../../../src/worker/scheduler/state.js';
import { createHarness, leakedBlocks } from '../../support/scheduler-harness.js';
import { promptRow, randomIntegers, sequenceSpec, SPECULATION } from '../../support/specs.js';
import { peakBlocksOf, randomPreviews, watchAlone, Watched } from '../../support/watched.js';

const speculating = (id: number, overrides: Partial<SequenceSpec> = {}): SequenceSpec => sequenceSpec(id, { gridHeight: 4, gridWidth: 4, speculation: SPECULATION, ...overrides });

const decoded = (plan: StepPlan): number[] => plan.decode.map((entry) => entry.sequence);

describe('schedule, speculating sequences', () => {
  it('plans a step with room for all drafts, and the next one when its outcome is known', async () => {
    const { state, submit, settle } = await createHarness({ maxStepTokens: 256 });
    addSequence(state, speculating(1));
    submit();
    await settle();
    const plan = submit(2);
    // Two rounds of a token and four drafts.
    expect(plan.decode[0]).toMatchObject({ sequence: 1, rounds: 2 });
    expect(plan.decode[0]!.blockTables.map((table) => table.length * 4)).toEqual([24, 20]);
    expect(state.byId.get(1)!).toMatchObject({ emitted: 0, inFlight: true, status: 'running' });
    expect(schedule(state).decode).toEqual([]);
    const [event] = await settle();
    expect(event).toMatchObject({ kind: 'tokens', sequence: 1, total: 16 });
    if (event?.kind !== 'tokens') throw new Error('no tokens');
    expect(event.count).toBe(event.emitted);
    expect(event.speculation!.accepted).toHaveLength(event.count);
    expect(event.count).toBe(event.speculation!.rounds.length + event.speculation!.accepted.filter(Boolean).length);
    expect(state.byId.get(1)!.rows.map((row) => row.computed)).toEqual([12 + event.count, 7 + event.count]);
    expect(decoded(submit())).toEqual([1]);
    await settle();
  });

  it('lets the others go on while a step is in flight', async () => {
    const { state, submit, settle } = await createHarness({ maxStepTokens: 256 });
    addSequence(state, speculating(1));
    addSequence(state, sequenceSpec(2, { gridHeight: 4, gridWidth: 4, promptRows: [promptRow(2, 5)] }));
    submit();
    await settle();
    expect(decoded(submit())).toEqual([1, 2]);
    expect(decoded(submit())).toEqual([2]);
    await settle();
    expect(decoded(submit())).toEqual([1, 2]);
    while ((await settle()).length > 0);
  });

  it('draws all that speculate in the same steps, whenever they came', async () => {
    const { state, submit, settle } = await createHarness({ maxStepTokens: 256 });
    const long = { gridHeight: 8, gridWidth: 8 };
    addSequence(state, speculating(1, long));
    submit();
    await settle();
    addSequence(state, speculating(2, long));
    // One runs, one waits behind it, as the step loop keeps them.
    expect(decoded(submit())).toEqual([1]);
    expect(decoded(submit())).toEqual([]);
    await settle();
    expect(decoded(submit())).toEqual([1, 2]);
    await settle();
    await settle();
    for (let step = 0; step < 3; step += 1) {
      expect(decoded(submit())).toEqual([1, 2]);
      await settle();
    }
  });

  it('gives a sequence its share of a step by all it may draft', async () => {
    const { state, submit, settle } = await createHarness({ maxStepTokens: 24, maxRunning: 2 });
    addSequence(state, speculating(1));
    submit();
    await settle();
    addSequence(state, sequenceSpec(2, { promptRows: [promptRow(2, 40)] }));
    // Two rows of five tokens leave fourteen for the prompt.
    expect(submit().prefill).toMatchObject([{ sequence: 2, begin: 0, end: 14 }]);
    // Nothing of the first is planned while its step is in flight.
    expect(submit().prefill).toMatchObject([{ sequence: 2, begin: 14, end: 38 }]);
    await settle();
    await settle();
    expect(() => addSequence(state, speculating(3, { speculation: { ...SPECULATION, maxDraftTokens: 6 } }))).toThrow(/needs 14 backbone rows a step, its share is 12/);
  });

  it('shares the prompt of the row that the draft reads with drafting sequences only', async () => {
    const { state, submit, settle } = await createHarness({ maxStepTokens: 256 });
    const promptRows = [promptRow(5, 9), promptRow(6, 9)];
    addSequence(state, speculating(1, { promptRows }));
    addSequence(state, sequenceSpec(2, { promptRows }));
    addSequence(state, speculating(3, { promptRows }));
    const prefilled = (plan: StepPlan): [number, number, number][] => plan.prefill.map(({ sequence, row, begin }) => [sequence, row, begin]);
    expect(prefilled(submit())).toEqual([[1, 0, 0], [1, 1, 0], [2, 0, 0]]);
    await settle();
    expect(prefilled(submit())).toEqual([[2, 1, 8], [3, 0, 8], [3, 1, 8]]);
    await settle();
  });

  it('does not take the blocks of others for drafts that may never be', async () => {
    const shape = { gridHeight: 4, gridWidth: 8, promptRows: [promptRow(1, 8)] };
    const { state, submit, settle } = await createHarness({ numBlocks: 14, maxRunning: 2 });
    addSequence(state, speculating(1, shape));
    addSequence(state, speculating(2, shape));
    submit();
    await settle();
    submit();
    await settle();
    const plan = submit(8);
    // The first finds room for all it asks for, the second for one round.
    expect(plan.decode.map(({ rounds }) => rounds)).toEqual([8, 1]);
    expect(state.numPreemptions).toBe(0);
    await settle();
  });

  it('preempted in flight, it comes back when the outcome is known, with all of it', async () => {
    const { state, submit, settle, engine } = await createHarness({ maxStepTokens: 256 });
    addSequence(state, speculating(1));
    submit();
    await settle();
    submit(2);
    const sequence = state.byId.get(1)!;
    preempt(state, sequence);
    expect(schedule(state).prefill).toEqual([]);
    await settle();
    const { emitted } = sequence;
    expect(emitted).toBeGreaterThan(0);
    expect(submit().prefill.map(({ begin, end }) => [begin, end])).toEqual([[11, 12 + emitted], [6, 7 + emitted]]);
    await settle();
    expect(engine.live.get(1)!.emitted).toBe(emitted);
  });

  it('preempted in the step that completes it, it is decoded and not drawn again', async () => {
    const { state, submit, settle, drain } = await createHarness({ maxStepTokens: 256 });
    addSequence(state, speculating(1, { gridHeight: 1, gridWidth: 2 }));
    submit();
    await settle();
    submit(4);
    preempt(state, state.byId.get(1)!);
    await settle();
    expect(state.waiting.size).toBe(0);
    expect(submit()).toMatchObject({ prefill: [], decode: [], vae: [{ sequence: 1, tokens: 2 }] });
    await drain();
    expect(leakedBlocks(state)).toBe(0);
  });

  it('reads finished rows and decodes partial pictures one step later, all before the picture', async () => {
    const { state, drain, engine } = await createHarness({ maxStepTokens: 256 });
    addSequence(state, speculating(1), { partials: [4, 8, 12], rows: true });
    const seen: string[] = [];
    await drain({ ahead: 2, burst: 3, see: (event) => { seen.push(event.kind); } });
    expect(engine.plans.flatMap((plan) => plan.read.map(({ end }) => end)).at(-1)).toBe(16);
    expect(seen.filter((kind) => kind === 'partial')).toHaveLength(3);
    expect(seen.at(-1)).toBe('image');
  });

  it('refuses an answer that cannot be', () => {
    const started = (): { state: SchedulerState; plan: StepPlan } => {
      const state = createSchedulerState({ numBlocks: 64, blockTokens: 4, maxStepTokens: 64, maxRunning: 4, maxVaePerStep: 1 });
      addSequence(state, speculating(1));
      schedule(state);
      return { state, plan: schedule(state) };
    };
    const timings = { total: 0, flowHead: 0, backbone: 0, draft: 0, verify: 0, vae: 0, preview: 0 };
    const answer = (emittedTokens: number, flags: number) => {
      const { state, plan } = started();
      const decode = [{ sequence: 1, emittedTokens, cancelled: false, accepted: new Uint8Array(flags), rounds: [] }];
      return () => applyStep(state, plan, { decode, images: [], tokens: [], timings, flowHeadEvaluations: 0, backboneTokens: 0 });
    };
    expect(answer(5, 5)).not.toThrow();
    expect(answer(0, 0)).toThrow(/expected 1 to 5 tokens/);
    expect(answer(6, 6)).toThrow(/expected 1 to 5 tokens/);
    expect(answer(3, 2)).toThrow(/expected 1 to 5 tokens/);
  });
});

describe('schedule, crowded batches', () => {
  const underLoad = ({ id, promptRows }: SequenceSpec): SequenceSpec => sequenceSpec(id, { gridHeight: 4, gridWidth: 4, fewStep: 1, promptRows: promptRows.slice(0, 1) });

  it('draws those who come into a full batch in their other way, and says so', async () => {
    const { state, submit, settle, engine } = await createHarness({ crowdedFrom: 2, maxStepTokens: 256 });
    for (let id = 1; id <= 4; id += 1) addSequence(state, speculating(id), undefined, underLoad(speculating(id)));
    // One that says itself how it is drawn.
    addSequence(state, speculating(5));
    submit();
    await settle();
    expect([1, 2, 3, 4, 5].map((id) => state.byId.get(id)!.isUnderLoad)).toEqual([false, false, true, true, false]);
    expect(engine.live.get(3)!.spec).toMatchObject({ fewStep: 1 });
    expect(engine.live.get(3)!.spec.speculation).toBeUndefined();
    expect(engine.live.get(3)!.rows).toHaveLength(1);
  });

  it('never without the option', async () => {
    const { state, submit, settle } = await createHarness({ maxStepTokens: 256 });
    for (let id = 1; id <= 4; id += 1) addSequence(state, speculating(id), undefined, underLoad(speculating(id)));
    submit();
    await settle();
    expect([...state.byId.values()].some((sequence) => sequence.isUnderLoad)).toBe(false);
  });
});

describe('schedule, whatever arrives and however it is drawn', () => {
  it.each(Array.from({ length: 60 }, (_, seed) => seed))('draws every picture as if alone, and leaks nothing (seed %i)', async (seed) => {
    const below = randomIntegers(1000 + seed);
    const blockTokens = [2, 4, 16][below(3)]!;
    const specs = Array.from({ length: 4 + below(20) }, (_, index) => randomSpec(index + 1, below));
    const largest = Math.max(...specs.map((spec) => peakBlocksOf(spec, blockTokens)));
    const maxRunning = 1 + below(10);
    // Three rows of sixteen tokens: the largest share there can be.
    const limits = { numBlocks: largest + below(3) * below(2 * largest), blockTokens, maxRunning, maxStepTokens: 48 * maxRunning + below(30), maxVaePerStep: 1 + below(3) };

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
      for (let steps = below(4); steps > 0; steps -= 1) {
        const inFlight = new Set([...state.byId.values()].filter((sequence) => sequence.inFlight).map((sequence) => sequence.spec.id));
        const plan = submit(1 + below(6));
        // Whoever waits for an outcome is planned for nothing.
        for (const { sequence } of [...plan.decode, ...plan.prefill]) expect(inFlight.has(sequence)).toBe(false);
      }
      const victim = state.byId.get(1 + below(specs.length));
      if (victim !== undefined && below(5) === 0) {
        engine.cancel(1, victim.spec.id);
        removeSequence(state, victim);
        cancelled.add(victim.spec.id);
      }
      // The youngest, as room is made, but at any time.
      const youngest = state.running.at(-1);
      if (youngest !== undefined && below(4) === 0) preempt(state, youngest);
      for (let steps = below(5); steps > 0; steps -= 1) (await settle()).forEach(see);
    }
    await drain({ maxSteps: 20_000, ahead: 1 + below(3), burst: 1 + below(9), see });
    for (const { id } of specs) crowd.get(id)!.expectLike(solo.get(id)!, wishes.get(id)!, cancelled.has(id));
    expect(engine.live.size).toBe(0);
    expect(leakedBlocks(state)).toBe(0);
  });
});

/** Plain, speculating, by few steps, and both; prompts that some of them share. */
function randomSpec(id: number, below: (limit: number) => number): SequenceSpec {
  const conditional = promptRow(below(4), 2 + below(24));
  const unconditional = promptRow(100 + below(2), 2 + below(6));
  const fewStep = ([0, 0, 1, 2] as const)[below(4)]!;
  const promptRows = fewStep > 0 ? [conditional] : [[conditional], [conditional, unconditional], [conditional, conditional, unconditional]][below(3)]!;
  const speculation = below(3) === 0 ? {} : { speculation: { ...SPECULATION, maxDraftTokens: 1 + below(15) } };
  return sequenceSpec(id, { promptRows, gridHeight: 1 + below(5), gridWidth: 1 + below(5), seed: below(1000), fewStep, ...speculation });
}
