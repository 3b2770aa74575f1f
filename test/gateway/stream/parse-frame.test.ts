import { describe, expect, it } from 'vitest';
import { encodeBinaryFrame } from '../../../src/gateway/stream/binary-frame.js';
import { isAllowedOrigin } from '../../../src/gateway/stream/origin.js';
import { parseFrame } from '../../../src/gateway/stream/parse-frame.js';
import { decodeComfy } from '../../support/stream-client.js';

describe('parseFrame', () => {
  it('takes null for absent, in the frame and in its request', () => {
    const parsed = parseFrame(JSON.stringify({ t: 'generate', id: 'a', idempotency_key: null, request: { prompt: 'x', n: null } }));
    expect(parsed).toEqual({ frame: { t: 'generate', id: 'a', request: { prompt: 'x' } } });
  });

  it('names what a bad frame was about', () => {
    expect(parseFrame('{"t":"generate","id":"a","request":{"prompt":7}}')).toMatchObject({ subject: { id: 'a' }, error: { param: 'request.prompt' } });
    expect(parseFrame(JSON.stringify({ t: 'cancel', job: 'x'.repeat(999) }))).toMatchObject({ subject: {}, error: { code: 'string_above_max_length' } });
  });
});

describe('encodeBinaryFrame', () => {
  it('is ComfyUI’s preview with metadata', () => {
    const meta = { job: 'j', seq: 3, image: 1, image_type: 'image/png', final: false, rect: { x: 0, y: 8, width: 64, height: 8 } };
    const frame = encodeBinaryFrame(meta, Uint8Array.of(1, 2, 3));
    expect(frame.subarray(0, 4)).toEqual(Buffer.from([0, 0, 0, 4]));
    expect(decodeComfy(frame)).toEqual({ meta, bytes: Buffer.from([1, 2, 3]) });
  });
});

describe('isAllowedOrigin', () => {
  it.each<[string | undefined, string, readonly string[], boolean]>([
    [undefined, 'a.example', [], true],
    ['https://a.example', 'a.example', [], true],
    ['http://a.example:8080', 'a.example:8080', [], true],
    ['http://a.example:8081', 'a.example:8080', [], false],
    ['https://b.example', 'a.example', [], false],
    ['https://b.example', 'a.example', ['https://b.example'], true],
    ['https://b.example.evil', 'a.example', ['https://b.example'], false],
    ['https://b.example', 'a.example', ['*'], true],
    ['null', 'a.example', [], false],
  ])('%s to %s, allowed %j: %s', (origin, host, allowed, expected) => {
    expect(isAllowedOrigin(origin, host, allowed)).toBe(expected);
  });
});
