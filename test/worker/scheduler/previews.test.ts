import { describe, expect, it } from 'vitest';
import type { SequenceEvent } from '../../../src/worker/scheduler/apply-step.js';
import type { PreviewPlan } from '../../../src/worker/scheduler/preview-plan.js';
import { partialTokenCounts } from '../../../src/worker/scheduler/previews.js';
import { addSequence, preempt, removeSequence } from '../../../src/worker/scheduler/state.js';
import { createHarness, leakedBlocks } from '../../support/scheduler-harness.js';
import { promptRow, sequenceSpec } from '../../support/specs.js';

/** [kind, sequence, tokens shown or rows' token range] of the previews and pictures among the events. */
function shown(events: readonly SequenceEvent[]): unknown[] {
  return events.flatMap((event) => {
    if (event.kind === 'rows') return [['rows', event.sequence, event.begin, event.end]];
    if (event.kind === 'partial' || event.kind === 'image') return [[event.kind, event.sequence, event.image.tokens]];
    return [];
  });
}

const partials = (...counts: number[]): PreviewPlan => ({ partials: counts, rows: false });

describe('partialTokenCounts', () => {
  it('puts partial i of k after ceil(h * i / (k + 1)) rows', () => {
    expect(partialTokenCounts(8, 8, 0)).toEqual([]);
    expect(partialTokenCounts(8, 8, 1)).toEqual([4 * 8]);
    expect(partialTokenCounts(8, 5, 2)).toEqual([3 * 5, 6 * 5]);
    expect(partialTokenCounts(8, 8, 3)).toEqual([2 * 8, 4 * 8, 6 * 8]);
    expect(partialTokenCounts(32, 32, 3)).toEqual([8 * 32, 16 * 32, 24 * 32]);
    expect(partialTokenCounts(7, 1, 3)).toEqual([2, 4, 6]);
  });

  it('leaves out what would show nothing new, or everything', () => {
    expect(partialTokenCounts(1, 4, 3)).toEqual([]);
    expect(partialTokenCounts(2, 4, 3)).toEqual([4]);
    expect(partialTokenCounts(3, 4, 3)).toEqual([4, 8]);
  });
});

describe('partial pictures', () => {
  it('are decoded of exactly their tokens, in the plan after the one that draws the last of them', async () => {
    const { state, step } = await createHarness();
    addSequence(state, sequenceSpec(1, { gridHeight: 3, gridWidth: 2 }), partials(2, 4));
    await step();
    const seen = [];
    for (let i = 0; i < 7; i += 1) seen.push(shown((await step()).events));
    // After 3 tokens the picture of 2 is shown: the sequence does not stand still for it.
    expect(seen).toEqual([[], [], [['partial', 1, 2]], [], [['partial', 1, 4]], [], [['image', 1, 6]]]);
  });

  it('are the same whether the tokens come one by one or in a burst past them', async () => {
    const draw = async (burst: number): Promise<Map<number, Uint8Array>> => {
      const { state, drain } = await createHarness();
      addSequence(state, sequenceSpec(1, { gridHeight: 4, gridWidth: 4 }), partials(4, 8, 12));
      const pictures = new Map<number, Uint8Array>();
      await drain({ burst, see: (event) => { if (event.kind === 'partial') pictures.set(event.image.tokens, event.image.rgb); } });
      return pictures;
    };
    const single = await draw(1);
    expect([...single.keys()]).toEqual([4, 8, 12]);
    expect(await draw(5)).toEqual(single);
    expect(await draw(16)).toEqual(single);
  });

  it('share the limit of decodes per step, without delaying tokens', async () => {
    const { state, step } = await createHarness({ maxVaePerStep: 2 });
    for (const id of [1, 2, 3, 4, 5]) {
      addSequence(state, sequenceSpec(id, { gridHeight: 3, gridWidth: 3, promptRows: [promptRow(id, 5)] }), partials(3));
    }
    await step();
    for (let token = 1; token <= 3; token += 1) await step();
    for (const wanted of [[1, 2], [3, 4], [5]]) {
      const { plan, events } = await step();
      expect(plan.vae).toEqual(wanted.map((sequence) => ({ sequence, tokens: 3 })));
      expect(shown(events)).toEqual(wanted.map((sequence) => ['partial', sequence, 3]));
      expect(plan.decode).toHaveLength(5);
    }
  });

  it('let finished pictures go first, each behind its own partials', async () => {
    const { state, submit, settle } = await createHarness({ maxVaePerStep: 1, maxRunning: 2 });
    addSequence(state, sequenceSpec(1, { gridHeight: 5, gridWidth: 2, promptRows: [promptRow(1, 5)] }), partials(2));
    addSequence(state, sequenceSpec(2, { gridHeight: 3, gridWidth: 1, promptRows: [promptRow(2, 5)] }), partials(1, 2));
    const order = [];
    submit();
    await settle();
    for (let i = 0; i < 12; i += 1) {
      submit(3);
      order.push(...shown(await settle()));
    }
    expect(order).toEqual([
      // The first step of three tokens makes all partials due and completes 2: it overtakes 1.
      ['partial', 2, 1],
      ['partial', 2, 2],
      ['image', 2, 3],
      ['partial', 1, 2],
      ['image', 1, 10],
    ]);
    expect(state.partials).toEqual([]);
  });

  it('are not shown again after a preemption, and are decoded while the sequence waits', async () => {
    const shape = { gridHeight: 3, gridWidth: 4 };
    const { state, submit, settle, drain } = await createHarness({ numBlocks: 16, maxRunning: 2 });
    for (const id of [1, 2]) {
      addSequence(state, sequenceSpec(id, { ...shape, promptRows: [promptRow(id, 8), promptRow(id + 50, 8)] }), { partials: [4, 8], rows: true });
    }
    const seen: unknown[] = [];
    while (state.numPreemptions === 0) {
      submit();
      seen.push(...shown(await settle()));
    }
    expect(state.byId.get(2)!.status).toBe('waiting');
    await drain({ see: (event) => seen.push(...shown([event])) });
    for (const id of [1, 2]) {
      expect(seen.filter((entry) => Array.isArray(entry) && entry[1] === id && entry[0] !== 'rows')).toEqual([
        ['partial', id, 4],
        ['partial', id, 8],
        ['image', id, 12],
      ]);
      expect(seen.filter((entry) => Array.isArray(entry) && entry[1] === id && entry[0] === 'rows')).toEqual([
        ['rows', id, 0, 4],
        ['rows', id, 4, 8],
        ['rows', id, 8, 12],
      ]);
    }
    expect(leakedBlocks(state)).toBe(0);
  });

  it('that are due when the sequence waits for blocks are decoded all the same', async () => {
    const { state, step } = await createHarness({ maxVaePerStep: 1 });
    addSequence(state, sequenceSpec(1, { gridHeight: 2, gridWidth: 2 }), partials(2));
    await step();
    await step();
    await step();
    expect(state.partials).toHaveLength(1);
    // As room.ts does when an older sequence needs the blocks.
    preempt(state, state.byId.get(1)!);
    const { plan, events } = await step();
    expect(plan.decode).toEqual([]);
    expect(shown(events)).toEqual([['partial', 1, 2]]);
  });

  it('go with their sequence when it is cancelled', async () => {
    const { state, step, submit, settle, engine } = await createHarness({ maxVaePerStep: 1 });
    for (const id of [1, 2]) addSequence(state, sequenceSpec(id, { promptRows: [promptRow(id, 5)] }), { partials: [3], rows: true });
    await step();
    for (let token = 1; token <= 3; token += 1) await step();
    expect(state.partials).toHaveLength(2);
    // One decode is planned and in flight, the other still waits, and both sequences are gone before the answer.
    submit();
    for (const id of [1, 2]) {
      engine.cancel(1, id);
      removeSequence(state, state.byId.get(id)!);
    }
    expect(state.partials).toEqual([]);
    expect(shown(await settle())).toEqual([]);
    expect((await step()).plan).toMatchObject({ release: [1, 2], vae: [], read: [] });
    expect(engine.live.size).toBe(0);
  });
});

describe('rows', () => {
  it('are read when their last token is drawn, in the same step', async () => {
    const { state, step } = await createHarness();
    addSequence(state, sequenceSpec(1, { gridHeight: 2, gridWidth: 3 }), { partials: [], rows: true });
    addSequence(state, sequenceSpec(2, { gridHeight: 2, gridWidth: 3 }));
    await step();
    const seen = [];
    for (let token = 1; token <= 6; token += 1) seen.push(shown((await step()).events));
    expect(seen).toEqual([[], [], [['rows', 1, 0, 3]], [], [], [['rows', 1, 3, 6]]]);
  });

  it('of one step come together, also when the step began inside a row', async () => {
    const { state, submit, settle, engine } = await createHarness();
    addSequence(state, sequenceSpec(1, { gridHeight: 6, gridWidth: 2 }), { partials: [], rows: true });
    submit();
    await settle();
    const ranges = [];
    for (const burst of [1, 4, 2, 5]) {
      submit(burst);
      ranges.push(...shown(await settle()));
    }
    expect(ranges).toEqual([['rows', 1, 0, 4], ['rows', 1, 4, 6], ['rows', 1, 6, 12]]);
    expect(engine.plans.flatMap((plan) => plan.read)).toHaveLength(3);
  });
});
