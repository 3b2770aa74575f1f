/** One line of the Prometheus text format. */
export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** Fails on a line that is neither sample nor comment, and on a series that appears twice. */
export function parseExposition(text: string): Sample[] {
  const seen = new Set<string>();
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => {
    const match = /^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$/.exec(line);
    if (match === null) throw new Error(`no sample: ${line}`);
    const series = `${match[1]}${match[2] ?? ''}`;
    if (seen.has(series)) throw new Error(`twice: ${series}`);
    seen.add(series);
    return { name: match[1]!, labels: parseLabels(match[2] ?? ''), value: parseValue(match[3]!) };
  });
}

/** Sum of the samples that `name{label="value",...}` selects, as PromQL would; null when there is none. */
export function valueOf(text: string, selector: string): number | null {
  const match = /^([\w:]+)(\{.*\})?$/.exec(selector);
  if (match === null) throw new Error(`no selector: ${selector}`);
  const wanted = Object.entries(parseLabels(match[2] ?? ''));
  const found = parseExposition(text).filter(({ name, labels }) => name === match[1] && wanted.every(([label, value]) => labels[label] === value));
  return found.length === 0 ? null : found.reduce((sum, { value }) => sum + value, 0);
}

function parseLabels(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((match) => [match[1]!, match[2]!]));
}

function parseValue(text: string): number {
  if (text === '+Inf') return Infinity;
  return text === '-Inf' ? -Infinity : Number(text);
}
