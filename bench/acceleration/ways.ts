import { combinationOf } from '../../src/calibration/combination.js';
import { fewStepWay, settingsOf, wayOf, type SpeculationSettings } from '../../src/calibration/settings.js';
import type { Studio, Way } from '../../src/calibration/studio.js';
import { MODE_KEYS, type Acceleration, type CalibratedMode, type Calibration, type ModeKey } from '../../src/model/accelerator.js';

/** One way of drawing that is measured. */
export interface BenchWay {
  /** What it is called in tables: the mode's key, or "off". */
  name: string;
  combination: Acceleration;
  settings: SpeculationSettings | null;
  /** The stored mode; null: vanilla. */
  mode: CalibratedMode | null;
  way: Way;
  /** Another than everybody's. */
  studio?: Studio;
}

export const VANILLA: BenchWay = { name: 'off', combination: { mode: 'off', fewStep: 0 }, settings: null, mode: null, way: fewStepWay(0) };

/** Vanilla with fewer network evaluations a token: what a model gives up speed for without any of this. */
export function fewerTimesteps(timesteps: number): BenchWay[] {
  const counts = [1, 2, 4].map((divisor) => Math.floor(timesteps / 2 / divisor)).filter((count) => count >= 1);
  return counts.map((count) => ({ ...VANILLA, name: `off, ${count} timestep${count === 1 ? '' : 's'}`, way: (vanilla) => ({ ...vanilla, timesteps: count }) }));
}

/** Vanilla with as many as nobody doubts: what the released models of passes are sampled with. */
export function manyTimesteps(): BenchWay {
  const MANY = 100;
  return { ...VANILLA, name: `off, ${MANY} timesteps`, way: (vanilla) => ({ ...vanilla, timesteps: MANY }) };
}

/** All modes that the calibration measured, passed or not. */
export function calibratedWays({ modes }: Calibration): Map<ModeKey, BenchWay> {
  const ways = new Map<ModeKey, BenchWay>();
  for (const key of MODE_KEYS) {
    const mode = modes[key];
    if (mode === undefined) continue;
    const combination = combinationOf(key);
    const settings = mode.speculation === null ? null : settingsOf(mode.speculation);
    ways.set(key, { name: key, combination, settings, mode, way: wayOf(combination, settings) });
  }
  return ways;
}

/** The four columns of the comparison. */
export type Column = 'few_step' | 'exact' | 'relaxed' | 'both';

/**
 * What stands for each column. Where several numbers of jumps were calibrated: the fastest whose guard passed, and if none did
 * the fastest at all, which the result then says. Undefined: the folder has no such mode.
 */
export function columnsOf(ways: ReadonlyMap<ModeKey, BenchWay>): Record<Column, BenchWay | undefined> {
  const best = (belongs: (key: ModeKey) => boolean): BenchWay | undefined => {
    const all = [...ways].filter(([key]) => belongs(key)).map(([, way]) => way);
    const passed = all.filter(({ mode }) => mode?.guard.passed === true);
    return (passed.length > 0 ? passed : all).sort((a, b) => b.mode!.speedup - a.mode!.speedup)[0];
  };
  return {
    few_step: best((key) => key.startsWith('few_step:')),
    exact: ways.get('exact'),
    relaxed: ways.get('relaxed'),
    both: best((key) => key.startsWith('relaxed:')),
  };
}
