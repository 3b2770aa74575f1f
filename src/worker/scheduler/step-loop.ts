import type { EngineModel } from '../../engine/engine.js';
import type { SequenceSpec, StepPlan, StepResult } from '../../engine/native-types.js';
import { toEngineError, type EngineError } from '../../errors.js';
import { applyStep, type SequenceEvent } from './apply-step.js';
import { isEmptyPlan, schedule } from './schedule.js';
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

/**
 * Runs plan → engine → apply → publish until stopped, and sleeps while there is nothing to do. The only
 * asynchronous file of the scheduler: everything it decides, the pure functions beside it decided.
 */
export class StepLoop {
  private readonly listeners = new Map<number, SequenceListener>();
  private wake: () => void = () => undefined;
  private stopping = false;
  private finished: Promise<void> | null = null;

  constructor(
    readonly state: SchedulerState,
    private readonly model: EngineModel,
    private readonly observer: StepObserver,
  ) {}

  start(): void {
    this.finished ??= this.run();
  }

  add(spec: SequenceSpec, listener: SequenceListener): void {
    if (this.stopping) throw new Error('the step loop is stopped');
    addSequence(this.state, spec);
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

  /** Ends after the step in flight; what is still live fails with `closed`. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.wake();
    await this.finished;
    this.failAll(toEngineError(Object.assign(new Error('the engine is shutting down'), { code: 'closed' })));
  }

  private async run(): Promise<void> {
    while (!this.stopping) {
      if (!hasWork(this.state)) await this.sleep();
      else await this.step();
    }
  }

  private async step(): Promise<void> {
    const plan = schedule(this.state);
    if (isEmptyPlan(plan)) {
      // Cannot happen while the oldest sequence always has room; failing loudly beats spinning.
      this.failAll(toEngineError(new Error('the scheduler has work but planned nothing')));
      return;
    }
    this.publish(plan.admit.map((spec) => ({ kind: 'started', sequence: spec.id })));
    let events: SequenceEvent[];
    const begin = performance.now();
    try {
      const result = await this.model.step(plan);
      events = applyStep(this.state, plan, result);
      this.observer.onStep(plan, result, (performance.now() - begin) / 1000);
    } catch (thrown) {
      await this.failStep(plan, toEngineError(thrown));
      return;
    }
    this.publish(events);
  }

  private publish(events: readonly SequenceEvent[]): void {
    for (const event of events) {
      const listener = this.listeners.get(event.sequence);
      if (event.kind === 'image') this.listeners.delete(event.sequence);
      listener?.onEvent(event);
    }
  }

  /**
   * Every sequence of a refused plan is lost; those that were not in it go on. Cached prompts stay: a plan only
   * writes blocks that one sequence owns.
   */
  private async failStep(plan: StepPlan, error: EngineError): Promise<void> {
    this.observer.onStepFailed(plan, error);
    if (error.nativeCode === 'closed') {
      this.stopping = true;
      this.failAll(error);
      return;
    }
    if (error.nativeCode !== 'invalid_plan' && error.nativeCode !== 'invalid_argument') {
      this.failAdmitted(error);
      return;
    }
    const admitted = plan.admit.map((spec) => spec.id);
    const entries = [...plan.prefill, ...plan.decode, ...plan.vae].map((entry) => entry.sequence);
    for (const id of new Set([...admitted, ...entries])) this.fail(id, error);
    await this.releaseOneByOne([...plan.release, ...this.state.releases.splice(0)]);
  }

  /**
   * The engine broke off in the middle of the step and has dropped every sequence (native-types.ts, step). Those it
   * never had only waited, and go on; what is in the KV blocks is not relied on any more.
   */
  private failAdmitted(error: EngineError): void {
    for (const sequence of [...this.state.byId.values()]) if (sequence.admitted) this.fail(sequence.spec.id, error);
    this.state.releases.splice(0);
    this.state.cache.clear();
  }

  /**
   * The refused plan changed nothing, so what it meant to release is still there. One call per id, so that an id the
   * engine does not know costs nobody else a step.
   */
  private async releaseOneByOne(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      const plan: StepPlan = { release: [id], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [] };
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
