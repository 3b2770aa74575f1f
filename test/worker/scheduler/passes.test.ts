import { describe, expect, it } from 'vitest';
import type { ClassInfo, FewStep, SequenceSpec, SpeculationSpec, StepPlan, StepResult } from '../../../src/engine/native-types.js';
import { applyStep } from '../../../src/worker/scheduler/apply-step.js';
import { passStepsOf, type PassSteps } from '../../../src/model/pass-steps.js';
import { courseOf, guidanceRowsOf, MAX_STEP_TIMESTEPS } from '../../../src/worker/scheduler/course.js';
import { partialTimestepCounts } from '../../../src/worker/scheduler/previews.js';
import { schedule } from '../../../src/worker/scheduler/schedule.js';
import { addSequence, createSchedulerState, hasWork, removeSequence, type SchedulerLimits } from '../../../src/worker/scheduler/state.js';
import { sequenceSpec } from '../../support/specs.js';

/** Blocks of 4 positions: a row is 8 class positions and three passes of 4, five blocks. */
const CLASSES: ClassInfo = { numClasses: 10, classTokens: 8, numPasses: 3, passTokens: 4, grid: 4 };
const LIMITS: SchedulerLimits = { numBlocks: 64, blockTokens: 4, maxStepTokens: 80, maxRunning: 8, maxVaePerStep: 2, classes: CLASSES };

function classSpec(id: number, changes: Partial<SequenceSpec> = {}): SequenceSpec {
  return { ...sequenceSpec(id), promptRows: [], classLabel: id % 10, gridHeight: 4, gridWidth: 4, sampler: 'maruyama', timesteps: 10, guidanceScale: 1.3, ...changes };
}

const DRAFTING: SpeculationSpec = {
  mode: 'relaxed', drafting: 'sequential', maxDraftTokens: 1, tolerance: 0.5, gate: { kind: 'off' }, costs: { plain: 1, round: 1, draft: 0.1, verify: 0.1 }, acceptance: 0.5, adaptive: true, trace: false, draftJumps: 2,
};

const stepsOf = ({ timesteps, fewStep = 0, speculation }: SequenceSpec): PassSteps => passStepsOf(timesteps, fewStep, speculation !== undefined);

interface Drawn {
  spec: SequenceSpec;
  done: number;
  /** Passes below it have been drafted, and kept or refused. */
  judged: number;
  /** Per row: positions whose keys and values are in its blocks, and which blocks these were. */
  rows: { computed: number; blocks: number[] }[];
}

/**
 * The rules of native/engine/transdiff_plan.cpp, and what the engine cannot see: that nobody else writes into blocks whose
 * contents a row still needs.
 */
class StrictPasses {
  readonly live = new Map<number, Drawn>();
  private readonly writtenBy = new Map<number, string>();

  step(plan: StepPlan): StepResult {
    for (const id of plan.release) expect(this.live.delete(id)).toBe(true);
    for (const spec of plan.admit) {
      const rows = Array.from({ length: guidanceRowsOf(spec) }, () => ({ computed: 0, blocks: [] }));
      this.live.set(spec.id, { spec, done: 0, judged: 0, rows });
    }
    expect(plan.copies.length).toBe(0);
    expect(plan.read).toEqual([]);
    const first = CLASSES.classTokens + CLASSES.passTokens;
    const passEnds = [first, first + CLASSES.passTokens, first + 2 * CLASSES.passTokens];
    for (const { sequence, row, begin, end, blockTable } of plan.prefill) {
      const drawn = this.live.get(sequence)!;
      const pass = Math.min(Math.floor(drawn.done / stepsOf(drawn.spec).each), 2);
      expect([0, ...passEnds]).toContain(begin);
      expect(passEnds.slice(0, pass + 1)).toContain(end);
      if (begin > 0) this.expectKept(drawn, row, begin, blockTable);
      for (let block = begin / 4; block < end / 4; block += 1) this.writtenBy.set(blockTable[block]!, `${sequence}.${row}.${block}`);
      drawn.rows[row] = { computed: end, blocks: [...blockTable] };
    }
    const decode = plan.decode.map(({ sequence, blockTables, rounds }) => {
      const drawn = this.live.get(sequence)!;
      const { each, last } = stepsOf(drawn.spec);
      const pass = Math.min(Math.floor(drawn.done / each), 2);
      expect(rounds).toBeGreaterThanOrEqual(1);
      expect(rounds).toBeLessThanOrEqual(Math.min(MAX_STEP_TIMESTEPS, pass * each + (pass === 2 ? last : each) - drawn.done));
      for (const [row, table] of blockTables.entries()) {
        expect(drawn.rows[row]!.computed).toBe(passEnds[pass]);
        this.expectKept(drawn, row, passEnds[pass]!, table);
      }
      if (drawn.spec.speculation === undefined) {
        drawn.done += rounds;
        return { sequence, emittedTokens: drawn.done, cancelled: false };
      }
      const begins = pass < 2 && drawn.done === pass * each && drawn.judged <= pass;
      if (begins) drawn.judged = pass + 1;
      const kept = begins && (drawn.spec.seed + pass) % 2 === 0;
      const count = kept ? each : rounds;
      drawn.done += count;
      const records = begins ? [{ drafted: 1, accepted: kept ? 1 : 0, gateStopped: false, draftEntropy: NaN, targetEntropy: NaN }] : [];
      return { sequence, emittedTokens: drawn.done, cancelled: false, accepted: new Uint8Array(count).fill(kept ? 1 : 0), rounds: records };
    });
    const images = plan.vae.map(({ sequence, tokens }) => {
      const drawn = this.live.get(sequence)!;
      const { each, last } = stepsOf(drawn.spec);
      expect([each, 2 * each, 2 * each + last]).toContain(tokens);
      expect(tokens).toBeLessThanOrEqual(drawn.done);
      return { sequence, tokens, width: 1, height: 1, rgb: new Uint8Array(3) };
    });
    const timings = { total: 0, flowHead: 0, backbone: 0, draft: 0, verify: 0, vae: 0, preview: 0 };
    return { decode, images, tokens: [], timings, flowHeadEvaluations: 0, backboneTokens: 0 };
  }

  private expectKept({ spec, rows }: Drawn, row: number, positions: number, table: Uint32Array): void {
    for (let block = 0; block < positions / 4; block += 1) {
      expect(table[block]).toBe(rows[row]!.blocks[block]);
      expect(this.writtenBy.get(table[block]!)).toBe(`${spec.id}.${row}.${block}`);
    }
  }
}

describe('scheduling of passes', () => {
  it('prefills a pass, then runs its timesteps, then prefills the next', () => {
    const state = createSchedulerState(LIMITS);
    const engine = new StrictPasses();
    addSequence(state, classSpec(1));
    const seen: string[] = [];
    while (hasWork(state)) {
      const plan = schedule(state, 4);
      for (const { row, begin, end } of plan.prefill) seen.push(`row ${row}: ${begin}-${end}`);
      for (const { rounds } of plan.decode) seen.push(`${rounds}`);
      if (plan.vae.length > 0) seen.push('picture');
      applyStep(state, plan, engine.step(plan));
    }
    const timesteps = ['4', '4', '2'];
    expect(seen).toEqual([
      'row 0: 0-12', 'row 1: 0-12', ...timesteps, 'row 0: 12-16', 'row 1: 12-16', ...timesteps, 'row 0: 16-20', 'row 1: 16-20', ...timesteps, 'picture',
    ]);
    expect(state.pool.numUsed).toBe(0);
  });

  it('never runs more timesteps than a step may, nor past the end of a pass', () => {
    const course = courseOf(classSpec(1, { timesteps: 20 }), CLASSES);
    expect(course.total).toBe(60);
    expect([0, 8, 16, 19, 20, 59].map((done) => course.rounds(done, 16))).toEqual([8, 8, 4, 1, 8, 1]);
    expect(course.rounds(0, 3)).toBe(3);
  });

  it('prefills whole passes within what a step takes', () => {
    const { prefillEnd } = courseOf(classSpec(1), CLASSES);
    expect([11, 12, 15, 16, 100].map((budget) => prefillEnd(0, 20, budget))).toEqual([0, 12, 12, 16, 20]);
    expect([0, 3, 4, 7, 8].map((budget) => prefillEnd(12, 20, budget))).toEqual([12, 12, 16, 16, 20]);
  });

  it('has one row without guidance, and needs a model of classes', () => {
    expect(courseOf(classSpec(1, { guidanceScale: 1 }), CLASSES).startLengths).toEqual([12]);
    expect(() => courseOf(classSpec(1), null)).toThrow(/names a class/);
    expect(() => addSequence(createSchedulerState({ ...LIMITS, numBlocks: 9 }), classSpec(1))).toThrow(/needs 10 blocks, the pool has 9/);
    expect(() => addSequence(createSchedulerState({ ...LIMITS, maxRunning: 1, maxStepTokens: 11 }), classSpec(1))).toThrow(/needs 12 backbone rows to begin/);
  });

  it('runs as many pictures at once as the pool is made for', () => {
    // One pass takes all its blocks at once and nothing later; of three, a picture's last blocks come pass by pass.
    for (const classes of [{ ...CLASSES, numPasses: 1 }, CLASSES]) {
      const blocks = 2 * Math.ceil((classes.classTokens + classes.numPasses * classes.passTokens) / 4);
      const state = createSchedulerState({ ...LIMITS, classes, numBlocks: 4 * blocks });
      for (const id of [1, 2, 3, 4]) addSequence(state, classSpec(id));
      const plan = schedule(state, 4);
      expect(plan.admit.map(({ id }) => id)).toEqual([1, 2, 3, 4]);
    }
  });

  it('counts the timesteps of what draws each pass', () => {
    const total = (changes: Partial<SequenceSpec>): number => courseOf(classSpec(1, changes), CLASSES).total;
    expect(total({ fewStep: 2 })).toBe(6);
    expect(total({ speculation: DRAFTING })).toBe(30);
    // References that are refused have all timesteps of the model's sampler; the picture has its jumps.
    expect(total({ speculation: DRAFTING, fewStep: 4 })).toBe(24);
    const both = courseOf(classSpec(1, { speculation: DRAFTING, fewStep: 4 }), CLASSES);
    expect([0, 9, 10, 20, 23].map((done) => both.rounds(done, 16))).toEqual([8, 1, 8, 4, 1]);
    expect([0, 4, 20].map((done) => both.mostDrawn(done, 2))).toEqual([10, 6, 4]);
  });

  it('has one row where guidance is in the weights that draw it', () => {
    const rows = (changes: Partial<SequenceSpec>): number => courseOf(classSpec(1, changes), CLASSES).startLengths.length;
    expect([rows({}), rows({ fewStep: 2 }), rows({ speculation: DRAFTING }), rows({ speculation: DRAFTING, fewStep: 2 })]).toEqual([2, 1, 2, 2]);
  });

  it('waits for what became of a draft: a pass is over at once, or drawn timestep by timestep', () => {
    const state = createSchedulerState(LIMITS);
    const engine = new StrictPasses();
    // Its first reference is kept, its second refused.
    addSequence(state, classSpec(1, { seed: 2, timesteps: 5, speculation: DRAFTING, fewStep: 1 }), { partials: [5, 10], rows: false });
    const seen: string[] = [];
    while (hasWork(state)) {
      const plan = schedule(state, 3);
      for (const { begin, end, row } of plan.prefill) if (row === 0) seen.push(`prefill ${begin}-${end}`);
      for (const { tokens } of plan.vae) seen.push(`picture ${tokens}`);
      for (const event of applyStep(state, plan, engine.step(plan))) {
        if (event.kind === 'tokens') seen.push(`${event.count} to ${event.emitted} of ${event.total}${event.speculation?.accepted[0] === true ? ' kept' : ''}`);
      }
    }
    expect(seen).toEqual([
      'prefill 0-12', '5 to 5 of 11 kept', 'prefill 12-16', 'picture 5', '3 to 8 of 11', '2 to 10 of 11', 'prefill 16-20', 'picture 10', '1 to 11 of 11', 'picture 11',
    ]);
  });

  it('shows the first passes, never the last', () => {
    expect(partialTimestepCounts(4, 20, 0)).toEqual([]);
    expect(partialTimestepCounts(4, 20, 2)).toEqual([20, 40]);
    expect(partialTimestepCounts(4, 20, 9)).toEqual([20, 40, 60]);
    expect(partialTimestepCounts(1, 20, 3)).toEqual([]);
  });

  // Pictures of all kinds that come and leave at any time, in a pool that holds about two of them, with plans made ahead.
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('keeps the engine’s rules whatever comes and goes (%i)', (seed) => {
    let word = seed * 2654435761;
    const random = (below: number): number => {
      word = (Math.imul(word, 1664525) + 1013904223) >>> 0;
      return Math.floor((word / 2 ** 32) * below);
    };
    const state = createSchedulerState({ ...LIMITS, numBlocks: 16 + random(8), maxStepTokens: 24 + random(60), maxRunning: 8 });
    const engine = new StrictPasses();
    const pictures = new Set<number>();
    const cancelled = new Set<number>();
    const flights: StepPlan[] = [];
    let next = 1;
    for (let turn = 0; turn < 3000 && (next <= 30 || hasWork(state) || flights.length > 0); turn += 1) {
      if (next <= 30 && random(2) === 0) {
        const fewStep = ([0, 0, 1, 2, 4] as FewStep[])[random(5)]!;
        const ways = { fewStep, seed: next, ...(random(2) === 0 ? {} : { speculation: DRAFTING }) };
        const spec = classSpec(next, { timesteps: 1 + random(20), guidanceScale: random(2) === 0 ? 1 : 1.3, ...ways });
        addSequence(state, spec, { partials: partialTimestepCounts(3, stepsOf(spec).each, random(4)), rows: false });
        next += 1;
      }
      const live = [...state.byId.values()];
      if (live.length > 0 && random(25) === 0) {
        const gone = live[random(live.length)]!;
        cancelled.add(gone.spec.id);
        removeSequence(state, gone);
      }
      while (flights.length < 2 && hasWork(state)) flights.push(schedule(state, 1 + random(10)));
      const plan = flights.shift();
      if (plan === undefined) continue;
      for (const event of applyStep(state, plan, engine.step(plan))) if (event.kind === 'image') pictures.add(event.sequence);
    }
    expect(pictures.size + [...cancelled].filter((id) => !pictures.has(id)).length).toBe(30);
    expect(state.pool.numUsed).toBe(0);
    expect(engine.live.size).toBe(0);
    expect(state.numPreemptions).toBeGreaterThan(0);
  });
});
