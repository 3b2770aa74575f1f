/** One server-sent event; comments and ids are of no interest here. */
export interface ServerSentEvent {
  event: string;
  data: string;
}

/** Events of a body as they arrive, whatever pieces it comes in. */
export async function* readServerSentEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const piece of body) {
    rest += decoder.decode(piece, { stream: true });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop()!;
    for (const block of blocks) {
      const event = parseBlock(block);
      if (event !== null) yield event;
    }
  }
}

function parseBlock(block: string): ServerSentEvent | null {
  let event = 'message';
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([^:]+):? ?(.*)$/.exec(line) ?? [];
    if (field === 'event') event = value!;
    if (field === 'data') data.push(value!);
  }
  return data.length === 0 ? null : { event, data: data.join('\n') };
}
