import { describe, expect, it } from 'vitest';
import { readServerSentEvents, type ServerSentEvent } from '../../../src/cli/drawing/sse.js';

async function read(text: string, size: number): Promise<ServerSentEvent[]> {
  const bytes = new TextEncoder().encode(text);
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size);
  }
  const events: ServerSentEvent[] = [];
  for await (const event of readServerSentEvents(pieces())) events.push(event);
  return events;
}

describe('server-sent events', () => {
  const text = ': hello\n\nid: a-1\nevent: x\ndata: {"a":"ä: b"}\n\ndata: one\ndata: two\n\r\nretry: 5\n\nevent: half\ndata: lost';

  it.each([1, 2, 3, 7, 1000])('come out the same in pieces of %i bytes', async (size) => {
    expect(await read(text, size)).toEqual([
      { event: 'x', data: '{"a":"ä: b"}' },
      { event: 'message', data: 'one\ntwo' },
    ]);
  });
});
