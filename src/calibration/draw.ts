import type { EngineModel } from '../engine/engine.js';
import type { PrefillEntry, SequenceSpec, StepPlan } from '../engine/native-types.js';
import { drawPasses } from './draw-passes.js';
import type { DrawnGroup } from './drawn.js';

const EMPTY: StepPlan = { release: [], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [], read: [] };

/**
 * Draws a group of pictures in as few engine steps as there can be: their prompts, all their tokens, their decodes. No scheduler
 * in between, so that what is measured is the engine's, and every round of a picture lies in one answer.
 */
export async function drawGroup(model: EngineModel, maxStepTokens: number, specs: readonly SequenceSpec[], readTokens = false): Promise<DrawnGroup> {
  if (model.info.classes !== undefined) return drawPasses(model, model.info.classes, maxStepTokens, specs);
  const tables = assignBlocks(specs, model.info.blockTokens, model.info.kvBlocks);
  let totalSeconds = 0;
  const run = async (plan: Partial<StepPlan>) => {
    const result = await model.step({ ...EMPTY, ...plan });
    totalSeconds += result.timings.total;
    return result;
  };
  const chunks = prefillChunks(specs, tables, maxStepTokens);
  for (const [i, prefill] of chunks.entries()) await run({ prefill, admit: i === 0 ? [...specs] : [] });
  const decoded = await run({ decode: specs.map((spec, i) => ({ sequence: spec.id, blockTables: tables[i]!, rounds: tokensOf(spec) })) });
  const { images, tokens } = await run({
    vae: specs.map((spec) => ({ sequence: spec.id, tokens: tokensOf(spec) })),
    read: readTokens ? specs.map((spec) => ({ sequence: spec.id, begin: 0, end: tokensOf(spec) })) : [],
  });
  await run({ release: specs.map(({ id }) => id) });
  return {
    pictures: specs.map((spec, i) => {
      const decode = decoded.decode[i]!;
      if (decode.emittedTokens !== tokensOf(spec)) throw new Error(`picture ${spec.id}: ${decode.emittedTokens} of ${tokensOf(spec)} tokens were drawn`);
      return { image: images[i]!, decode, tokens: tokens[i]?.data ?? null };
    }),
    decodeTimings: decoded.timings,
    totalSeconds,
  };
}

export function tokensOf(spec: SequenceSpec): number {
  return spec.gridHeight * spec.gridWidth;
}

/** A table per row of every picture, all blocks from the start: nothing is shared, nothing grows. */
export function assignBlocks(specs: readonly SequenceSpec[], blockTokens: number, kvBlocks: number): Uint32Array[][] {
  let next = 0;
  const tables = specs.map((spec) =>
    spec.promptRows.map((ids) => {
      const count = Math.ceil((ids.length + tokensOf(spec)) / blockTokens);
      next += count;
      return Uint32Array.from({ length: count }, (_, i) => next - count + i);
    }),
  );
  if (next > kvBlocks) throw new RangeError(`${specs.length} pictures need ${next} KV blocks, there are ${kvBlocks}`);
  return tables;
}

/** All prompts, in steps of at most `maxStepTokens` rows. */
export function prefillChunks(specs: readonly SequenceSpec[], tables: readonly Uint32Array[][], maxStepTokens: number): PrefillEntry[][] {
  const chunks: PrefillEntry[][] = [[]];
  let room = maxStepTokens;
  for (const [i, spec] of specs.entries()) {
    for (const [row, ids] of spec.promptRows.entries()) {
      for (let begin = 0; begin < ids.length; ) {
        if (room === 0) {
          chunks.push([]);
          room = maxStepTokens;
        }
        const end = Math.min(ids.length, begin + room);
        chunks.at(-1)!.push({ sequence: spec.id, row, begin, end, blockTable: tables[i]![row]! });
        room -= end - begin;
        begin = end;
      }
    }
  }
  return chunks;
}
