export interface SseEvent {
  event: string;
  id: string | null;
  data: Record<string, unknown>;
}

/** Splits a body of server-sent events; comments are returned apart. Throws on anything that is neither. */
export function parseSse(text: string): { events: SseEvent[]; comments: string[] } {
  const events: SseEvent[] = [];
  const comments: string[] = [];
  for (const block of text.split('\n\n').filter((part) => part !== '')) {
    const fields = new Map<string, string>();
    for (const line of block.split('\n')) {
      const match = /^(?:(event|data|id|retry): (.*)|: (.*))$/s.exec(line);
      if (match === null) throw new Error(`no line of an event stream: ${JSON.stringify(line.slice(0, 100))}`);
      if (match[3] !== undefined) comments.push(match[3]);
      else fields.set(match[1]!, match[2]!);
    }
    const data = fields.get('data');
    if (data !== undefined) events.push({ event: fields.get('event') ?? 'message', id: fields.get('id') ?? null, data: JSON.parse(data) as Record<string, unknown> });
  }
  return { events, comments };
}
