/**
 * The engine's randomness once more (docs/contract.md, Randomness), so that another implementation can be handed
 * exactly the noise that the engine draws for itself.
 */

const INITIAL_NOISE = 0;
const TIMESTEP_NOISE = 1;

/** (tokens, timesteps + 1, width) standard normals of the picture with this seed; the initial noise of a token first. */
export function noiseOf(seed: number, tokens: number, timesteps: number, width: number): Float32Array {
  const noise = new Float32Array(tokens * (timesteps + 1) * width);
  const key: [number, number] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  let at = 0;
  for (let token = 0; token < tokens; token += 1) {
    for (let draw = 0; draw <= timesteps; draw += 1) {
      const stream = draw === 0 ? INITIAL_NOISE << 16 : (draw - 1) | (TIMESTEP_NOISE << 16);
      fillNormals(noise.subarray(at, at + width), stream, token, key);
      at += width;
    }
  }
  return noise;
}

function fillNormals(out: Float32Array, stream: number, token: number, key: readonly [number, number]): void {
  for (let block = 0; block * 4 < out.length; block += 1) {
    const [a, b, c, d] = philox4x32([block, stream, token, 0], key);
    const four = [...boxMuller(a, b), ...boxMuller(c, d)];
    out.set(four.slice(0, out.length - block * 4), block * 4);
  }
}

function boxMuller(first: number, second: number): [number, number] {
  const radius = Math.sqrt(-2 * Math.log((first + 0.5) * 2 ** -32));
  const angle = 2 * Math.PI * (second + 0.5) * 2 ** -32;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

type Words = [number, number, number, number];

function philox4x32(counter: Words, key: readonly [number, number]): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round += 1) {
    const high0 = highProduct(c0, 0xd2511f53);
    const high1 = highProduct(c2, 0xcd9e8d57);
    const low0 = Math.imul(c0, 0xd2511f53) >>> 0;
    const low1 = Math.imul(c2, 0xcd9e8d57) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Upper 32 bits of a product of two uint32, by 16-bit halves: doubles hold each partial sum exactly. */
function highProduct(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}
