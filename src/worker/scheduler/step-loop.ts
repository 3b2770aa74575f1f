import type { EngineModel } from '../../engine/engine.js';
import type { SequenceSpec, StepPlan, StepResult } from '../../engine/native-types.js';
import { toEngineError, type EngineError } from '../../errors.js';
import { applyStep, type SequenceEvent } from './apply-step.js';
import { BurstPolicy } from './burst.js';
import type { PreviewPlan } from './preview-plan.js';
import { isEmptyPlan, schedule } from './schedule.js';
import { Turns, type Turn } from '../turns.js';
import { addSequence, hasWork, removeSequence, type SchedulerState } from './state.js';

/** Where events of one sequence go. Called between steps, so it must not block. */
export interface SequenceListener {
  onEvent(event: SequenceEvent): void;
  /** The sequence is gone and nothing more follows. */
  onError(error: EngineError): void;
}

/** Watches steps for metrics and logs. */
export interface StepObserver {
  onStep(plan: StepPlan, result: StepResult, wallSeconds: number): void;
  onStepFailed(plan: StepPlan, error: EngineError): void;
}

/** A plan the engine has, and its answer to come. */
interface Flight {
  plan: StepPlan;
  result: Promise<StepResult>;
  submittedAt: number;
}

/**
 * Steps given to the engine ahead: one runs, the next waits behind it, so that the engine goes on without waiting
 * for this thread to wake up.
 */
const MAX_FLIGHTS = 2;

/**
 * Runs plan → engine → apply → publish until stopped, and sleeps while there is nothing to do. The only
 * asynchronous file of the scheduler: everything it decides, the pure functions beside it decided.
 */
export class StepLoop {
  private readonly listeners = new Map<number, SequenceListener>();
  private readonly flights: Flight[] = [];
  private readonly burst = new BurstPolicy();
  private readonly turn: Turn;
  private wake: () => void = () => undefined;
  private stopping = false;
  private finished: Promise<void> | null = null;

  constructor(
    readonly state: SchedulerState,
    private readonly model: EngineModel,
    private readonly observer: StepObserver,
    /** Of the models that share the engine; absent: this one has it alone. */
    turns = new Turns(),
  ) {
    this.turn = turns.join(() => {
      this.wake();
    });
  }

  start(): void {
    this.finished ??= this.run();
  }

  /** `underLoad`: how it is drawn instead where the batch is crowded when it comes in. */
  add(spec: SequenceSpec, listener: SequenceListener, previews?: PreviewPlan, underLoad?: SequenceSpec | null): void {
    if (this.stopping) throw new Error('the step loop is stopped');
    addSequence(this.state, spec, previews, underLoad);
    this.listeners.set(spec.id, listener);
    this.wake();
  }

  /** Frees the sequence's blocks now and its slot with the next step; the flag ends a step in flight early. */
  cancel(id: number): void {
    const sequence = this.state.byId.get(id);
    if (sequence === undefined) return;
    this.model.cancel(id);
    removeSequence(this.state, sequence);
    this.listeners.delete(id);
    this.wake();
  }

  /** Ends after the steps in flight; what is still live fails with `closed`. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.wake();
    await this.finished;
    this.failAll(toEngineError(Object.assign(new Error('the engine is shutting down'), { code: 'closed' })));
  }

  private async run(): Promise<void> {
    for (;;) {
      while (!this.stopping && this.flights.length < MAX_FLIGHTS && this.submit());
      const flight = this.flights.shift();
      if (flight !== undefined) {
        await this.settle(flight);
      } else if (this.stopping) {
        this.turn.leave();
        return;
      } else {
        if (!hasWork(this.state)) this.turn.rest();
        await this.sleep();
      }
    }
  }

  /** Plans the next step and hands it to the engine; false when there is nothing to plan, or it is another model's turn. */
  private submit(): boolean {
    if (!hasWork(this.state) || !this.turn.mayStep()) return false;
    const plan = schedule(this.state, this.burst.rounds);
    if (isEmptyPlan(plan)) {
      // With steps in flight that is usual. Without, the oldest sequence always has something to do: a bug, and
      // failing loudly beats spinning.
      if (this.flights.length === 0) this.failAll(toEngineError(new Error('the scheduler has work but planned nothing')));
      return false;
    }
    this.publish(plan.admit.map(({ id }) => ({ kind: 'started', sequence: id, underLoad: this.state.byId.get(id)?.isUnderLoad === true })));
    const result = this.model.step(plan);
    // Looked at when its turn comes; until then a rejection is not unhandled.
    result.catch(() => undefined);
    this.flights.push({ plan, result, submittedAt: performance.now() });
    return true;
  }

  private async settle({ plan, result, submittedAt }: Flight): Promise<void> {
    let answer: StepResult;
    let events: SequenceEvent[];
    try {
      answer = await result;
      events = applyStep(this.state, plan, answer);
    } catch (thrown) {
      await this.failStep(plan, toEngineError(thrown));
      return;
    }
    this.burst.note(plan, answer);
    this.turn.charge(answer.timings.total);
    // Pictures first: somebody waits for them, nobody for what is counted of the step.
    this.publish(events);
    this.observer.onStep(plan, answer, (performance.now() - submittedAt) / 1000);
  }

  private publish(events: readonly SequenceEvent[]): void {
    for (const event of events) {
      const listener = this.listeners.get(event.sequence);
      if (event.kind === 'image') this.listeners.delete(event.sequence);
      listener?.onEvent(event);
    }
  }

  /**
   * Plans build on each other, so a failed step takes down every sequence of its plan and of those made after it.
   * Where the engine broke off in the middle it has dropped all sequences (native-types.ts, step). Those that only
   * waited go on; nothing that was in the cache is relied on.
   */
  private async failStep(plan: StepPlan, error: EngineError): Promise<void> {
    if (error.nativeCode === 'closed') {
      this.stopping = true;
      this.failAll(error);
      this.observer.onStepFailed(plan, error);
      return;
    }
    const later = this.flights.splice(0);
    await Promise.allSettled(later.map((flight) => flight.result));
    const plans = [plan, ...later.map((flight) => flight.plan)];
    const refused = error.nativeCode === 'invalid_plan' || error.nativeCode === 'invalid_argument';
    const admitted = [...this.state.byId.values()].filter((sequence) => sequence.admitted).map(({ spec }) => spec.id);
    for (const id of refused ? plans.flatMap(sequencesOf) : admitted) this.fail(id, error);
    // After those it costs are told: what they say of their work belongs to the step that failed.
    this.observer.onStepFailed(plan, error);
    this.state.cache.clear();
    await this.releaseOneByOne([...plans.flatMap((failed) => failed.release), ...this.state.releases.splice(0)]);
  }

  /** What the engine still has of these ids is unknown. One call each, so that one it does not know costs no other. */
  private async releaseOneByOne(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      const plan: StepPlan = { release: [id], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [], read: [] };
      await this.model.step(plan).catch(() => undefined);
    }
  }

  private failAll(error: EngineError): void {
    for (const id of [...this.state.byId.keys()]) this.fail(id, error);
  }

  private fail(id: number, error: EngineError): void {
    const sequence = this.state.byId.get(id);
    if (sequence !== undefined) removeSequence(this.state, sequence);
    const listener = this.listeners.get(id);
    this.listeners.delete(id);
    listener?.onError(error);
  }

  private sleep(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }
}

function sequencesOf(plan: StepPlan): number[] {
  return [...plan.admit.map((spec) => spec.id), ...[...plan.prefill, ...plan.decode, ...plan.vae, ...plan.read].map((entry) => entry.sequence)];
}
