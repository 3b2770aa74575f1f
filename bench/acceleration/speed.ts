import { vanillaSpec, type Studio } from '../../src/calibration/studio.js';
import type { RoundRecord, StepTimings } from '../../src/engine/native-types.js';
import type { Prompt } from '../../src/quality/pack.js';
import { draw, type Drawn } from '../draw.js';
import { ratiosOf, spreadOf, type Spread } from '../stats.js';
import type { BenchWay } from './ways.js';

/** Seconds of every round, and what the engine said of them. */
export interface WaySpeed {
  /** Of one picture, drawn alone, mean over the prompts. One number per round. */
  alone: number[];
  /** Of the whole batch. */
  together: number[];
  /** Of the pictures drawn alone. */
  rounds: RoundRecord[];
  share: Record<'backbone' | 'head' | 'draft' | 'verify' | 'vae' | 'other', number>;
}

export interface SpeedOptions {
  rounds: number;
  /** Drawn one after the other. */
  alone: readonly Prompt[];
  /** Drawn at once; empty: not measured. */
  together: readonly Prompt[];
}

/**
 * All ways in turns, round by round, through the server's own scheduler and without a server. So a noisy neighbour hits all of
 * them, and a ratio is taken within its round.
 */
export async function measureSpeed(studio: Studio, ways: readonly BenchWay[], options: SpeedOptions): Promise<Map<string, WaySpeed>> {
  const speeds = new Map<string, WaySpeed>();
  const timings = new Map<string, StepTimings[]>();
  for (const { name } of ways) {
    speeds.set(name, { alone: [], together: [], rounds: [], share: { backbone: 0, head: 0, draft: 0, verify: 0, vae: 0, other: 0 } });
    timings.set(name, []);
  }
  // What is slow only once is drawn ahead.
  const drawBy = ({ way, studio: other = studio }: BenchWay, prompts: readonly Prompt[]): Promise<Drawn> =>
    draw(other.model, prompts.map((prompt, i) => way(vanillaSpec(other, prompt, i))), other.maxStepTokens);
  for (const way of ways) await drawBy(way, options.alone.slice(0, 1));
  for (let round = 0; round < options.rounds; round += 1) {
    // Another order each time: nobody always follows the same one.
    for (const way of rotated(ways, round)) {
      const { name } = way;
      const speed = speeds.get(name)!;
      let seconds = 0;
      for (const prompt of options.alone) {
        const drawn = await drawBy(way, [prompt]);
        seconds += drawn.wallSeconds / options.alone.length;
        timings.get(name)!.push(...drawn.steps);
        speed.rounds.push(...drawn.rounds);
      }
      speed.alone.push(seconds);
      if (options.together.length === 0) continue;
      speed.together.push((await drawBy(way, options.together)).wallSeconds);
    }
  }
  for (const [name, speed] of speeds) speed.share = sharesOf(timings.get(name)!);
  return speeds;
}

function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

/** Of the engine's time for pictures drawn alone. `head`: tokens that the target drew itself. */
export function sharesOf(steps: readonly StepTimings[]): WaySpeed['share'] {
  const sum = (field: keyof StepTimings): number => steps.reduce((total, step) => total + step[field], 0);
  const total = sum('total');
  const parts = { backbone: sum('backbone'), head: sum('flowHead'), draft: sum('draft'), verify: sum('verify'), vae: sum('vae') + sum('preview') };
  const known = Object.values(parts).reduce((a, b) => a + b, 0);
  const share = (seconds: number): number => Number((seconds / total).toFixed(4));
  return { backbone: share(parts.backbone), head: share(parts.head), draft: share(parts.draft), verify: share(parts.verify), vae: share(parts.vae), other: share(Math.max(0, total - known)) };
}

/** Vanilla's time over the way's, within each round. */
export function speedup(vanilla: readonly number[], way: readonly number[]): Spread {
  return spreadOf(ratiosOf(vanilla, way));
}

/** Tokens of a round that drafted, its own included; 1 where nothing was drafted. */
export function tokensPerRound(rounds: readonly RoundRecord[]): number {
  const drafting = rounds.filter(({ drafted }) => drafted > 0);
  return drafting.length === 0 ? 1 : 1 + drafting.reduce((sum, { accepted }) => sum + accepted, 0) / drafting.length;
}
