import { describe, expect, it } from 'vitest';
import { SseParser } from '../../../web/src/protocol/sse-parser.js';

const TEXT = ': keep-alive\n\nevent: a\ndata: {"x":1}\n\nid: e-3\r\ndata: one\r\ndata:two\r\n\r\ndata: [DONE]\n\n';
const EVENTS = [
  { event: 'a', data: '{"x":1}' },
  { event: 'message', data: 'one\ntwo' },
  { event: 'message', data: '[DONE]' },
];

describe('SseParser', () => {
  it('reads events and skips comments', () => {
    expect(new SseParser().push(TEXT)).toEqual(EVENTS);
  });

  it('does not care where the pieces are cut', () => {
    for (const size of [1, 2, 3, 7]) {
      const parser = new SseParser();
      const events = [];
      for (let i = 0; i < TEXT.length; i += size) events.push(...parser.push(TEXT.slice(i, i + size)));
      expect(events).toEqual(EVENTS);
    }
  });

  it('keeps an unfinished event to itself', () => {
    const parser = new SseParser();
    expect(parser.push('data: half')).toEqual([]);
    expect(parser.push('\n\n')).toEqual([{ event: 'message', data: 'half' }]);
  });
});
