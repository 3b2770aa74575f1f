import type { DecodeResult, DecodedImage, StepTimings } from '../engine/native-types.js';

/** A picture, and all that the engine told of its drawing. */
export interface DrawnPicture {
  image: DecodedImage;
  decode: DecodeResult;
  /** (tokens, D), if asked for. */
  tokens: Float32Array | null;
}

export interface DrawnGroup {
  pictures: DrawnPicture[];
  /** Engine time of the decode step alone: all tokens of all pictures of the group, no prompt and no picture decode. */
  decodeTimings: StepTimings;
  /** Of all steps. */
  totalSeconds: number;
}
