import { TRACE_COLUMNS, type DecodeResult } from '../engine/native-types.js';

/** One drafted token that was judged: those before it in its round were accepted. */
export interface JudgedDraft {
  /** Image token. */
  token: number;
  /** j: 1 for the round's first draft. */
  draft: number;
  accepted: boolean;
  /** What was compared with the tolerance; in exact mode the token's path gap. */
  statistic: number;
  /** Running average of the target's entropy before the round; NaN while none has been seen. */
  targetEntropy: number;
  /** Attention entropy of each draft layer. */
  entropies: readonly number[];
  /** Statistic of the last draft that was judged before this round; 1 before the first. */
  lastStatistic: number;
}

/** The judged drafts of one picture, in the order they were drawn. */
export function judgedDrafts({ trace }: DecodeResult, draftLayers: number): JudgedDraft[] {
  if (trace === undefined) throw new Error('the picture was drawn without a trace');
  const columns = TRACE_COLUMNS + draftLayers;
  const judged: JudgedDraft[] = [];
  let lastStatistic = 1;
  let newest = 1;
  for (let at = 0; at < trace.length; at += columns) {
    const [token, draft, isUnreached, isAccepted, statistic, targetEntropy] = trace.subarray(at, at + TRACE_COLUMNS);
    if (draft === 1) lastStatistic = newest;
    if (isUnreached === 1) continue;
    newest = statistic!;
    judged.push({
      token: token!,
      draft: draft!,
      accepted: isAccepted === 1,
      statistic: statistic!,
      // The average begins at 0, which no entropy over several positions is.
      targetEntropy: targetEntropy === 0 ? NaN : targetEntropy!,
      entropies: [...trace.subarray(at + TRACE_COLUMNS, at + columns)],
      lastStatistic,
    });
  }
  return judged;
}
