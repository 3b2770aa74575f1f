import type { Tensor } from '../../engine/native-types.js';
import type { RgbImage } from '../../image/encode.js';

/** A feature map, channels first. */
interface FeatureMap {
  data: Float32Array;
  channels: number;
  height: number;
  width: number;
}

const CONVOLUTIONS = 4;

/** Four times ReLU(conv 3x3, stride 2, padding 1), mean over positions, one linear layer. */
export function pictureFeatures(network: ReadonlyMap<string, Tensor>, picture: RgbImage): Float64Array {
  let map = normalise(picture);
  for (let i = 0; i < CONVOLUTIONS; i += 1) map = convolve(map, weight(network, `conv${i}.weight`), weight(network, `conv${i}.bias`).data);
  const pooled = poolMean(map);
  const linear = weight(network, 'linear.weight');
  const bias = weight(network, 'linear.bias').data;
  return Float64Array.from(bias, (start, out) => pooled.reduce((sum, value, i) => sum + value * linear.data[out * pooled.length + i]!, start));
}

export function weight(network: ReadonlyMap<string, Tensor>, name: string): Tensor {
  const tensor = network.get(name);
  if (tensor === undefined) throw new Error(`the feature network has no ${name}`);
  return tensor;
}

/** x = u8 / 127.5 - 1, channels first. */
function normalise({ width, height, rgb }: RgbImage): FeatureMap {
  const pixels = width * height;
  const data = new Float32Array(pixels * 3);
  for (let p = 0; p < pixels; p += 1) for (let c = 0; c < 3; c += 1) data[c * pixels + p] = rgb[p * 3 + c]! / 127.5 - 1;
  return { data, channels: 3, height, width };
}

function convolve(input: FeatureMap, kernel: Tensor, bias: Float32Array): FeatureMap {
  const channels = kernel.shape[0] ?? 0;
  const [height, width] = [Math.ceil(input.height / 2), Math.ceil(input.width / 2)];
  const data = new Float32Array(channels * height * width);
  for (let out = 0; out < channels; out += 1) {
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const sum = bias[out]! + dotWindow(input, kernel.data, out, 2 * y - 1, 2 * x - 1);
        data[(out * height + y) * width + x] = Math.max(0, sum);
      }
    }
  }
  return { data, channels, height, width };
}

/** The 3x3 window with its corner at (top, left), over all input channels; outside is zero. */
function dotWindow({ data, channels, height, width }: FeatureMap, kernel: Float32Array, out: number, top: number, left: number): number {
  let sum = 0;
  for (let c = 0; c < channels; c += 1) {
    for (let dy = 0; dy < 3; dy += 1) {
      const y = top + dy;
      if (y < 0 || y >= height) continue;
      for (let dx = 0; dx < 3; dx += 1) {
        const x = left + dx;
        if (x >= 0 && x < width) sum += data[(c * height + y) * width + x]! * kernel[((out * channels + c) * 3 + dy) * 3 + dx]!;
      }
    }
  }
  return sum;
}

function poolMean({ data, channels, height, width }: FeatureMap): Float64Array {
  const pixels = height * width;
  return Float64Array.from({ length: channels }, (_, c) => data.subarray(c * pixels, (c + 1) * pixels).reduce((sum, value) => sum + value, 0) / pixels);
}
