import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../src/engine/native-types.js';
import { FeatureNetwork, weight } from '../../src/quality/features.js';
import { randomIntegers } from '../support/specs.js';

const CHANNELS = [3, 2, 5, 4, 3];

function randomNetwork(): Map<string, Tensor> {
  const below = randomIntegers(7);
  const tensor = (...shape: number[]): Tensor => ({ shape, data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => (below(2001) - 1000) / 1500) });
  const entries = CHANNELS.slice(1).flatMap((out, i) => [[`conv${i}.weight`, tensor(out, CHANNELS[i]!, 3, 3)], [`conv${i}.bias`, tensor(out)]] as const);
  return new Map([...entries, ['linear.weight', tensor(2, 3)], ['linear.bias', tensor(2)]]);
}

/** The definition, index by index, channels first. */
function plain(network: Map<string, Tensor>, rgb: Uint8Array, side: number): number[] {
  let map = (c: number, y: number, x: number): number => rgb[(y * side + x) * 3 + c]! / 127.5 - 1;
  let size = side;
  for (let i = 0; i < 4; i += 1) {
    const [kernel, bias, below, edge, ins] = [weight(network, `conv${i}.weight`).data, weight(network, `conv${i}.bias`).data, map, size, CHANNELS[i]!];
    map = (out, y, x) => {
      let sum = bias[out]!;
      for (let c = 0; c < ins; c += 1) {
        for (let dy = 0; dy < 3; dy += 1) {
          for (let dx = 0; dx < 3; dx += 1) {
            const [row, column] = [2 * y - 1 + dy, 2 * x - 1 + dx];
            if (row >= 0 && row < edge && column >= 0 && column < edge) sum += below(c, row, column) * kernel[((out * ins + c) * 3 + dy) * 3 + dx]!;
          }
        }
      }
      return Math.max(0, sum);
    };
    size = Math.ceil(size / 2);
  }
  const pooled = Array.from({ length: CHANNELS[4]! }, (_, c) => {
    let sum = 0;
    for (let y = 0; y < size; y += 1) for (let x = 0; x < size; x += 1) sum += map(c, y, x);
    return sum / (size * size);
  });
  const linear = weight(network, 'linear.weight').data;
  return [0, 1].map((out) => weight(network, 'linear.bias').data[out]! + pooled.reduce((sum, value, i) => sum + value * linear[out * 3 + i]!, 0));
}

describe('FeatureNetwork', () => {
  it('is the definition, index by index', () => {
    const side = 12;
    const below = randomIntegers(8);
    const rgb = Uint8Array.from({ length: side * side * 3 }, () => below(256));
    const network = randomNetwork();
    const features = new FeatureNetwork(network).features({ width: side, height: side, rgb });
    plain(network, rgb, side).forEach((value, i) => {
      expect(features[i]).toBeCloseTo(value, 5);
    });
  });

  it('names what is missing', () => {
    expect(() => new FeatureNetwork(new Map())).toThrow(/conv0\.weight/);
  });
});
