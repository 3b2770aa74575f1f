import { describe, expect, it } from 'vitest';
import { parseBinaryFrame, parseTextFrame } from '../../../web/src/protocol/frames.js';

function binary(type: number, meta: unknown, bytes: number[], claimedLength?: number): ArrayBuffer {
  const json = new TextEncoder().encode(JSON.stringify(meta));
  const buffer = new ArrayBuffer(8 + json.length + bytes.length);
  const view = new DataView(buffer);
  view.setUint32(0, type);
  view.setUint32(4, claimedLength ?? json.length);
  new Uint8Array(buffer).set(json, 8);
  new Uint8Array(buffer).set(bytes, 8 + json.length);
  return buffer;
}

describe('parseBinaryFrame', () => {
  const meta = { job: 'j', seq: 4, image: 1, image_type: 'image/png', final: false, rect: { x: 0, y: 8, width: 64, height: 8 } };

  it('takes metadata and bytes apart', () => {
    const frame = parseBinaryFrame(binary(4, meta, [1, 2, 3]));
    expect(frame).toMatchObject({ job: 'j', seq: 4, image: 1, mime: 'image/png', final: false, rect: { x: 0, y: 8, width: 64, height: 8 } });
    expect([...(frame?.bytes ?? [])]).toEqual([1, 2, 3]);
  });

  it('has no rectangle for a whole picture, and survives other alphabets', () => {
    expect(parseBinaryFrame(binary(4, { ...meta, job: 'jöb-ß', rect: undefined, final: true }, []))).toMatchObject({ job: 'jöb-ß', rect: null, final: true });
  });

  it('skips ComfyUI frames of other types', () => {
    expect(parseBinaryFrame(binary(1, meta, [1]))).toBeNull();
  });

  it('refuses frames that are too short for what they claim', () => {
    expect(() => parseBinaryFrame(new ArrayBuffer(7))).toThrow(/7 bytes/);
    expect(() => parseBinaryFrame(binary(4, meta, [], 10_000))).toThrow(/longer than its frame/);
  });
});

describe('parseTextFrame', () => {
  it('knows the types of this version and skips later ones', () => {
    expect(parseTextFrame('{"t":"pong"}')).toEqual({ t: 'pong' });
    expect(parseTextFrame('{"t":"hologram"}')).toBeNull();
  });

  it('refuses what is no frame', () => {
    for (const text of ['{', 'null', '[]', '{"t":3}', '"welcome"']) expect(() => parseTextFrame(text)).toThrow();
  });
});
