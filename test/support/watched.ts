import { expect } from 'vitest';
import type { SequenceSpec } from '../../src/engine/native-types.js';
import type { SequenceEvent } from '../../src/worker/scheduler/apply-step.js';
import type { PreviewPlan } from '../../src/worker/scheduler/preview-plan.js';
import { partialTokenCounts } from '../../src/worker/scheduler/previews.js';
import { addSequence, type SchedulerLimits } from '../../src/worker/scheduler/state.js';
import { createHarness } from './scheduler-harness.js';

/** Blocks with which the picture can be drawn alone. */
export function peakBlocksOf({ promptRows, gridHeight, gridWidth }: SequenceSpec, blockTokens: number): number {
  return promptRows.reduce((sum, row) => sum + Math.ceil((row.length + gridHeight * gridWidth - 1) / blockTokens) + 1, 0);
}

export function randomPreviews(spec: SequenceSpec, below: (limit: number) => number): PreviewPlan {
  return { partials: partialTokenCounts(spec.gridHeight, spec.gridWidth, below(4)), rows: below(2) === 0 };
}

/** Everything that was seen of one picture. */
export class Watched {
  /** Token counts of the partial pictures, then of the picture, as they came. */
  private readonly order: number[] = [];
  private readonly pictures = new Map<number, Uint8Array>();
  private readonly rows: number[] = [];
  /** Per token: an accepted draft, not one, or of a sequence that does not draft. */
  private readonly accepted: (boolean | null)[] = [];

  see(event: SequenceEvent): void {
    if (event.kind === 'partial' || event.kind === 'image') {
      this.order.push(event.image.tokens);
      this.pictures.set(event.image.tokens, event.image.rgb);
    }
    if (event.kind === 'rows') this.rows.push(...event.tokens);
    if (event.kind === 'tokens') this.accepted.push(...(event.speculation?.accepted ?? Array.from({ length: event.count }, () => null)));
  }

  /** All of it, each once and in order; of a cancelled picture the beginning. */
  expectLike(solo: Watched, wish: PreviewPlan, cancelled: boolean): void {
    expect(solo.order.slice(0, -1)).toEqual(wish.partials);
    expect(solo.rows.length > 0).toBe(wish.rows);
    expect(this.order).toEqual(cancelled ? solo.order.slice(0, this.order.length) : solo.order);
    expect(this.rows).toEqual(cancelled ? solo.rows.slice(0, this.rows.length) : solo.rows);
    expect(this.accepted).toEqual(cancelled ? solo.accepted.slice(0, this.accepted.length) : solo.accepted);
    for (const [tokens, rgb] of this.pictures) expect(Buffer.compare(rgb, solo.pictures.get(tokens)!)).toBe(0);
  }
}

/** What is seen of each picture when it is drawn alone, with room for everything. */
export async function watchAlone(specs: readonly SequenceSpec[], wishes: ReadonlyMap<number, PreviewPlan>, limits: Partial<SchedulerLimits>): Promise<Map<number, Watched>> {
  const solo = new Map<number, Watched>();
  for (const spec of specs) {
    const { state, drain } = await createHarness({ ...limits, numBlocks: 512 });
    addSequence(state, spec, wishes.get(spec.id)!);
    const watched = new Watched();
    await drain({ see: (event) => { watched.see(event); } });
    solo.set(spec.id, watched);
  }
  return solo;
}
