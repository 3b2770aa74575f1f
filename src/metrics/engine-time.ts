import type { DecodeEntry, DecodeResult, SequenceSpec, StepPlan, StepResult } from '../engine/native-types.js';
import { guidanceRowsOf } from '../worker/scheduler/course.js';

/** What the engine has spent on one sequence. */
interface Account {
  /** Network evaluations that one image token takes: timesteps x guidance rows, or jumps. Of a timestep of a pass: one a row. */
  evaluationsPerToken: number;
  /** Timesteps of passes are drawn without the backbone. */
  appends: boolean;
  /** Per guidance row: positions that the backbone has computed at least once. */
  reached: number[];
  seconds: number;
  /** Its job is given up: what steps in flight still spend on it is waste of that kind. */
  wastedAs: string | null;
}

/**
 * Who the engine worked for. A step serves many sequences at once, so its wall time is divided by what each of them
 * asked for: flow-head time by evaluations, backbone time (and the little rest) by positions, picture decodes by
 * pictures. On a CPU that is wall time of the whole machine, on a GPU time on its stream; either way the shares of
 * all sequences sum to the time of the steps.
 *
 * Wasted is what was spent on sequences of jobs that came to nothing, and what recomputing after a preemption took.
 */
export class EngineTime {
  private readonly accounts = new Map<number, Account>();

  constructor(
    /** The engine has it and has not been told to drop it, so steps may still cost. */
    private readonly isLive: (id: number) => boolean,
    private readonly onWaste: (reason: string, seconds: number) => void,
  ) {}

  note(plan: StepPlan, { decode, timings }: StepResult): void {
    for (const spec of plan.admit) {
      const { id, timesteps, fewStep = 0, classLabel } = spec;
      const rows = rowCount(spec);
      const perToken = classLabel === undefined ? timesteps * rows : rows;
      // Given up before its first step was over: there is an account already.
      const wastedAs = this.accounts.get(id)?.wastedAs ?? null;
      this.accounts.set(id, { evaluationsPerToken: classLabel === undefined ? fewStep || perToken : perToken, reached: Array<number>(rows).fill(0), seconds: 0, wastedAs, appends: classLabel === undefined });
    }
    for (const id of plan.release) if (this.accounts.get(id)?.wastedAs != null) this.accounts.delete(id);
    // Finished pictures and partial ones cost the same. Reads without either are too small to be told apart.
    const pictures = plan.vae.length > 0 ? timings.vae + timings.preview : 0;
    const drafting = timings.draft + timings.verify;
    const rest = Math.max(0, timings.total - timings.flowHead - drafting - pictures);
    const work = plan.decode.map((entry, i) => workOf(entry, decode[i], this.accounts.get(entry.sequence)?.appends !== false));
    const positions = positionsOf(plan, work);
    // Time that nothing asked for (an empty step) has no owner.
    if (positions > 0) this.chargeBackbone(plan, work, rest / positions);
    // Timesteps of passes need no backbone: the little rest of such a step is theirs, or where drafts stand for all of them the drafts'.
    const ownRest = plan.decode.length === 0 || positions > 0 ? 0 : rest;
    const isAllDrafts = work.every(({ pending }) => pending === 0);
    this.chargeFlowHead(plan, work, timings.flowHead + (isAllDrafts ? 0 : ownRest));
    const drafts = work.reduce((sum, { drafted }) => sum + drafted, 0);
    const draftSeconds = drafting + (isAllDrafts ? ownRest : 0);
    if (drafts > 0) for (const [i, { sequence }] of plan.decode.entries()) this.charge(sequence, (draftSeconds * work[i]!.drafted) / drafts);
    for (const { sequence } of plan.vae) this.charge(sequence, (pictures + (positions > 0 || plan.decode.length > 0 ? 0 : rest)) / plan.vae.length);
  }

  /** The job got what it asked for. */
  settle(ids: readonly number[]): void {
    for (const id of ids) this.accounts.delete(id);
  }

  /** The job comes to nothing; its pictures were worth their time only together. Call it before the sequences are cancelled. */
  abandon(ids: readonly number[], reason: string): void {
    for (const id of ids) {
      const account = this.accounts.get(id) ?? { evaluationsPerToken: 0, reached: [], seconds: 0, wastedAs: null, appends: true };
      this.onWaste(reason, account.seconds);
      if (this.isLive(id)) this.accounts.set(id, { ...account, wastedAs: reason });
      else this.accounts.delete(id);
    }
  }

  /** A step broke off: no plan will release what was given up before. */
  stepFailed(): void {
    for (const [id, { wastedAs }] of this.accounts) if (wastedAs !== null) this.accounts.delete(id);
  }

  /** Sequences with an account, for tests: it must not grow. */
  get size(): number {
    return this.accounts.size;
  }

  private chargeBackbone(plan: StepPlan, work: readonly DecodeWork[], secondsEach: number): void {
    for (const { sequence, row, begin, end } of plan.prefill) {
      const account = this.accounts.get(sequence);
      if (account === undefined) continue;
      const reached = account.reached[row] ?? 0;
      const again = Math.max(0, Math.min(end, reached) - begin);
      account.reached[row] = Math.max(reached, end);
      this.charge(sequence, (end - begin - again) * secondsEach);
      if (again > 0) this.onWaste('preemption', again * secondsEach);
    }
    for (const [i, { sequence, blockTables }] of plan.decode.entries()) {
      const account = this.accounts.get(sequence);
      if (account === undefined) continue;
      const { tokens, positions } = work[i]!;
      for (const row of blockTables.keys()) account.reached[row] = (account.reached[row] ?? 0) + tokens;
      this.charge(sequence, blockTables.length * positions * secondsEach);
    }
  }

  private chargeFlowHead(plan: StepPlan, work: readonly DecodeWork[], seconds: number): void {
    const evaluations = plan.decode.map(({ sequence }, i) => (this.accounts.get(sequence)?.evaluationsPerToken ?? 0) * work[i]!.pending);
    const all = evaluations.reduce((sum, count) => sum + count, 0);
    if (all === 0) return;
    for (const [index, { sequence }] of plan.decode.entries()) this.charge(sequence, (seconds * evaluations[index]!) / all);
  }

  private charge(id: number, seconds: number): void {
    const account = this.accounts.get(id);
    if (account === undefined) return;
    if (account.wastedAs === null) account.seconds += seconds;
    else this.onWaste(account.wastedAs, seconds);
  }
}

function rowCount(spec: SequenceSpec): number {
  return spec.classLabel === undefined ? spec.promptRows.length : guidanceRowsOf(spec);
}

/** Backbone rows that a step computes. */
function positionsOf(plan: StepPlan, work: readonly DecodeWork[]): number {
  const prefill = plan.prefill.reduce((sum, { begin, end }) => sum + end - begin, 0);
  return plan.decode.reduce((sum, { blockTables }, i) => sum + blockTables.length * work[i]!.positions, prefill);
}

/** What one decode entry asked of the engine: as planned, or of a speculating sequence as its rounds turned out. */
interface DecodeWork {
  /** Drawn and appended to the backbone's rows. */
  tokens: number;
  /** Of those, by the target's own sampling: one a round. */
  pending: number;
  drafted: number;
  /** Backbone positions of each row. */
  positions: number;
}

function workOf({ rounds }: DecodeEntry, decoded: DecodeResult | undefined, appends: boolean): DecodeWork {
  const records = decoded?.rounds;
  if (!appends) return { tokens: 0, pending: timestepsOf(rounds, decoded), drafted: records?.reduce((sum, record) => sum + record.drafted, 0) ?? 0, positions: 0 };
  if (records === undefined) return { tokens: rounds, pending: rounds, drafted: 0, positions: rounds };
  const drafted = records.reduce((sum, record) => sum + record.drafted, 0);
  return { tokens: decoded?.accepted?.length ?? 0, pending: records.length, drafted, positions: records.length + drafted };
}

/** Of a pass: those that its decoder drew. A draft that is kept stands for all of a pass, and none of them was drawn. */
function timestepsOf(rounds: number, decoded: DecodeResult | undefined): number {
  return decoded?.accepted === undefined ? rounds : decoded.accepted.reduce((sum, isDraft) => sum + 1 - isDraft, 0);
}
