import type { Tensor } from '../../engine/native-types.js';

/** Tokens ↔ latents (docs/nextstep.md 8): element order (channel, row in patch, column in patch), raster order. */
interface Layout {
  channels: number;
  patch: number;
  /** Token grid. */
  height: number;
  width: number;
}

/** Calls back for every number with its index among the tokens (L, D) and in the latent (C, h·p, w·p). */
function forEachNumber({ channels, patch, height, width }: Layout, visit: (inTokens: number, inLatent: number) => void): void {
  const tokenSize = channels * patch * patch;
  for (let i = 0; i < height; i += 1) {
    for (let j = 0; j < width; j += 1) {
      for (let c = 0; c < channels; c += 1) {
        for (let a = 0; a < patch; a += 1) {
          for (let b = 0; b < patch; b += 1) {
            const inTokens = (i * width + j) * tokenSize + (c * patch + a) * patch + b;
            const inLatent = (c * height * patch + i * patch + a) * width * patch + j * patch + b;
            visit(inTokens, inLatent);
          }
        }
      }
    }
  }
}

/** (L, D) → (1, C, h·p, w·p). */
export function unpatchify(tokens: Float32Array, layout: Layout): Tensor {
  const data = new Float32Array(tokens.length);
  forEachNumber(layout, (inTokens, inLatent) => {
    data[inLatent] = tokens[inTokens]!;
  });
  return { data, shape: [1, layout.channels, layout.height * layout.patch, layout.width * layout.patch] };
}

/** (1, C, h·p, w·p) → (L, D). */
export function patchify(latent: Float32Array, layout: Layout): Float32Array {
  const tokens = new Float32Array(latent.length);
  forEachNumber(layout, (inTokens, inLatent) => {
    tokens[inTokens] = latent[inLatent]!;
  });
  return tokens;
}
