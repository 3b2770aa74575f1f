import { toEngineError } from '../errors.js';
import type {
  EngineInfo,
  LoadOptions,
  ModelInfo,
  NativeEngine,
  ProbeRequest,
  StepPlan,
  StepResult,
  Tensor,
} from './native-types.js';
import { StepClock } from './step-clock.js';

/** One loaded model, as the step loop and the golden runner see it. Every rejection is an `EngineError`. */
export interface EngineModel {
  readonly info: ModelInfo;
  step(plan: StepPlan): Promise<StepResult>;
  probe(request: ProbeRequest): Promise<Record<string, Tensor>>;
  /** Never waits: the sequence stops at its next timestep. */
  cancel(sequence: number): void;
  unload(): Promise<void>;
}

export interface Engine {
  readonly info: EngineInfo;
  /** How long it has been in its step, whichever model's that is; 0 while it rests. */
  readonly stepSeconds: number;
  /** Of weights, over all models; grows while one is loaded. */
  readonly loadedBytes: number;
  load(directory: string, options: LoadOptions): Promise<EngineModel>;
  close(): void;
}

/** Hides handles and native codes: above this line a model is an object and an error has a class. */
export function wrapEngine(native: NativeEngine): Engine {
  const clock = new StepClock();
  return {
    info: native.info,
    get stepSeconds() {
      return clock.seconds;
    },
    get loadedBytes() {
      return native.loadedBytes;
    },
    load: async (directory, options) => {
      const { handle, model: info } = await typed(() => native.load(directory, options));
      return {
        info,
        step: (plan) => clock.time(() => typed(() => native.step(handle, plan))),
        probe: (request) => typed(() => native.probe(handle, request)),
        cancel: (sequence) => {
          native.cancel(handle, sequence);
        },
        unload: () => typed(() => native.unload(handle)),
      };
    },
    close: () => {
      native.close();
    },
  };
}

/** A function, not a promise: the addon throws argument errors before it returns one. */
async function typed<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw toEngineError(thrown);
  }
}
