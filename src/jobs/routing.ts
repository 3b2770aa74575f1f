/** A worker that could take a job. */
export interface Candidate {
  /** What it has still to draw, by model: image tokens, or timesteps of a model that draws in passes (`unitsPerImage`). */
  readonly left: ReadonlyMap<string, number>;
}

/**
 * Index of the worker that a job for `model` should go to; there is at least one. Pure. The one with the least of that model
 * left to draw: units of one model cost the same, and models that share a worker get equal time, so what it has of others only
 * decides between equals. Then the first.
 */
export function route(model: string, candidates: readonly Candidate[]): number {
  let best = 0;
  for (let i = 1; i < candidates.length; i += 1) if (isLess(costOf(model, candidates[i]!), costOf(model, candidates[best]!))) best = i;
  return best;
}

/**
 * Whether a job of `units` that waits at `from` had better wait at `to`. Pure. Only where it leaves less to draw in front of
 * it: so equals do not pass jobs to and fro.
 */
export function isBetterAt(model: string, units: number, from: Candidate, to: Candidate): boolean {
  return (to.left.get(model) ?? 0) + units < (from.left.get(model) ?? 0);
}

type Cost = readonly [own: number, all: number];

function costOf(model: string, { left }: Candidate): Cost {
  let all = 0;
  for (const units of left.values()) all += units;
  return [left.get(model) ?? 0, all];
}

function isLess([ownA, allA]: Cost, [ownB, allB]: Cost): boolean {
  return ownA === ownB ? allA < allB : ownA < ownB;
}
