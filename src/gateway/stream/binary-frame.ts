import type { Rect } from './frames.js';

/** Where the bytes of a binary frame belong. */
export interface BinaryMeta {
  job: string;
  seq: number;
  image: number;
  image_type: string;
  final: boolean;
  /** The part of the finished picture, in its pixels; absent: the whole. */
  rect?: Rect;
}

/** ComfyUI's "preview with metadata": its front ends read these frames as they are. */
const PREVIEW_WITH_METADATA = 4;

/** u32 BE 4 | u32 BE length of the JSON | JSON | bytes */
export function encodeBinaryFrame(meta: BinaryMeta, bytes: Uint8Array): Buffer {
  const json = Buffer.from(JSON.stringify(meta));
  const frame = Buffer.allocUnsafe(8 + json.length + bytes.byteLength);
  frame.writeUInt32BE(PREVIEW_WITH_METADATA, 0);
  frame.writeUInt32BE(json.length, 4);
  json.copy(frame, 8);
  frame.set(bytes, 8 + json.length);
  return frame;
}
