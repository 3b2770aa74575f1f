/** A counter of the server at a moment. */
export interface Sample {
  at: number;
  tokens: number;
}

/** `ardiff_image_tokens_total` of a /metrics page, over all models; null when it is not there. */
export function imageTokens(metrics: string): number | null {
  let sum: number | null = null;
  for (const line of metrics.split('\n')) {
    const match = /^ardiff_image_tokens_total(?:\{[^}]*\})? (\S+)/.exec(line);
    if (match !== null) sum = (sum ?? 0) + Number(match[1]);
  }
  return sum;
}

/** Image tokens per second between two samples, all clients of the server together; null: no time has passed, or it was restarted. */
export function tokensPerSecond(from: Sample, to: Sample): number | null {
  const seconds = (to.at - from.at) / 1000;
  return seconds <= 0 || to.tokens < from.tokens ? null : (to.tokens - from.tokens) / seconds;
}
