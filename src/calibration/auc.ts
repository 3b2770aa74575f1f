/** Probability that a positive scores above a negative, ties counted half; 0.5 says nothing. NaN where one class is missing. */
export function areaUnderCurve(scores: readonly number[], labels: readonly boolean[]): number {
  const order = scores.map((_, i) => i).sort((a, b) => scores[a]! - scores[b]!);
  let rankSum = 0;
  for (let begin = 0; begin < order.length; ) {
    let end = begin + 1;
    while (end < order.length && scores[order[end]!] === scores[order[begin]!]) end += 1;
    // Ranks begin + 1 … end share their mean.
    const rank = (begin + 1 + end) / 2;
    for (let i = begin; i < end; i += 1) if (labels[order[i]!]!) rankSum += rank;
    begin = end;
  }
  const positives = labels.filter(Boolean).length;
  const negatives = labels.length - positives;
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives);
}
