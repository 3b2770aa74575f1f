/** A counter of the server at a moment. */
export interface Sample {
  at: number;
  tokens: number;
}

/** `ardiff_image_tokens_total` of a /metrics page, over all models; null when the page has no such counter. */
export function imageTokens(metrics: string): number | null {
  // A counter that has not counted yet is declared, but has no line of its own.
  let sum = metrics.includes('# TYPE ardiff_image_tokens_total counter') ? 0 : null;
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
