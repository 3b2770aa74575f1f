import type { Tensor } from '../engine/native-types.js';
import type { RgbImage } from '../image/encode.js';

/** A feature map, channels last: what a window reads of one row lies together. */
interface FeatureMap {
  data: Float32Array;
  channels: number;
  height: number;
  width: number;
}

const CONVOLUTIONS = 4;
const WINDOW = 3;
const AT_ONCE = 4;

/** The feature network of a quality pack, with its kernels put in the order they are read in. */
export class FeatureNetwork {
  private readonly kernels: { taps: Float32Array; bias: Float32Array }[];

  constructor(private readonly tensors: ReadonlyMap<string, Tensor>) {
    this.kernels = Array.from({ length: CONVOLUTIONS }, (_, i) => ({
      taps: channelsLast(weight(tensors, `conv${i}.weight`)),
      bias: weight(tensors, `conv${i}.bias`).data,
    }));
  }

  /** Four times ReLU(conv 3x3, stride 2, padding 1), mean over positions, one linear layer. */
  features(picture: RgbImage): Float64Array {
    let map = normalise(picture);
    for (const { taps, bias } of this.kernels) map = convolve(map, taps, bias);
    const pooled = poolMean(map);
    const linear = weight(this.tensors, 'linear.weight').data;
    const bias = weight(this.tensors, 'linear.bias').data;
    return Float64Array.from(bias, (start, out) => pooled.reduce((sum, value, i) => sum + value * linear[out * pooled.length + i]!, start));
  }
}

export function weight(network: ReadonlyMap<string, Tensor>, name: string): Tensor {
  const tensor = network.get(name);
  if (tensor === undefined) throw new Error(`the feature network has no ${name}`);
  return tensor;
}

/** (out, in, 3, 3) to (out, 3, 3, in). */
function channelsLast({ data, shape }: Tensor): Float32Array {
  const [outs = 0, ins = 0] = shape;
  const taps = WINDOW * WINDOW;
  const order = new Float32Array(data.length);
  for (let out = 0; out < outs; out += 1) {
    for (let c = 0; c < ins; c += 1) for (let tap = 0; tap < taps; tap += 1) order[(out * taps + tap) * ins + c] = data[(out * ins + c) * taps + tap]!;
  }
  return order;
}

/** x = u8 / 127.5 - 1. */
function normalise({ width, height, rgb }: RgbImage): FeatureMap {
  return { data: Float32Array.from(rgb, (value) => value / 127.5 - 1), channels: 3, height, width };
}

function convolve(input: FeatureMap, taps: Float32Array, bias: Float32Array): FeatureMap {
  const channels = bias.length;
  const [height, width] = [Math.ceil(input.height / 2), Math.ceil(input.width / 2)];
  const data = new Float32Array(height * width * channels);
  const window = new Float32Array(WINDOW * WINDOW * input.channels);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      gather(input, window, 2 * y - 1, 2 * x - 1);
      const at = (y * width + x) * channels;
      for (let out = 0; out < channels; out += AT_ONCE) dots(window, taps, bias, out, data, at);
    }
  }
  return { data, channels, height, width };
}

/** The 3x3 window with its corner at (top, left), over all input channels; outside is zero. */
function gather({ data, channels, height, width }: FeatureMap, window: Float32Array, top: number, left: number): void {
  window.fill(0);
  const begin = Math.max(0, left);
  const end = Math.min(width, left + WINDOW);
  for (let dy = 0; dy < WINDOW; dy += 1) {
    const y = top + dy;
    if (y < 0 || y >= height) continue;
    window.set(data.subarray((y * width + begin) * channels, (y * width + end) * channels), (dy * WINDOW + begin - left) * channels);
  }
}

/** ReLU(bias + window · taps) of `AT_ONCE` outputs from `out` on: each number of the window is read once for all of them. */
function dots(window: Float32Array, taps: Float32Array, bias: Float32Array, out: number, data: Float32Array, at: number): void {
  const size = window.length;
  // Where fewer are left the last one is computed again, into its own place.
  const last = bias.length - 1;
  const [o1, o2, o3] = [Math.min(out + 1, last), Math.min(out + 2, last), Math.min(out + 3, last)];
  let [s0, s1, s2, s3] = [bias[out]!, bias[o1]!, bias[o2]!, bias[o3]!];
  const [t0, t1, t2, t3] = [out * size, o1 * size, o2 * size, o3 * size];
  for (let i = 0; i < size; i += 1) {
    const value = window[i]!;
    s0 += value * taps[t0 + i]!;
    s1 += value * taps[t1 + i]!;
    s2 += value * taps[t2 + i]!;
    s3 += value * taps[t3 + i]!;
  }
  data[at + out] = Math.max(0, s0);
  data[at + o1] = Math.max(0, s1);
  data[at + o2] = Math.max(0, s2);
  data[at + o3] = Math.max(0, s3);
}

function poolMean({ data, channels, height, width }: FeatureMap): Float64Array {
  const mean = new Float64Array(channels);
  for (let i = 0; i < data.length; i += 1) mean[i % channels]! += data[i]! / (height * width);
  return mean;
}
