// Pictures from a running server: one, many at once, as many as it can in some seconds.
const PNG_SIGNATURE = '89504e470d0a1a0a';

/** Its PNG, base64. `ways`: further fields of the request. */
export async function draw(server, prompt, seed, ways = {}) {
  const { status, json } = await server.post('/v1/images/generations', { prompt, seed, ...ways });
  if (status !== 200) throw new Error(`a picture was answered with ${status}: ${JSON.stringify(json)}`);
  return { png: json.data[0].b64_json, acceleration: json.usage.acceleration };
}

/** All of them sent before the first is done. */
export function drawTogether(server, prompt, seeds, ways) {
  return Promise.all(seeds.map((seed) => draw(server, prompt, seed, ways)));
}

/** "64x64", or what is wrong with it. */
export function sizeOfPng(base64) {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.toString('hex', 0, 8) !== PNG_SIGNATURE) return 'no PNG';
  return `${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`;
}

/** Mean difference of two pictures' bytes, of 255. */
export async function meanDifference(sharp, a, b) {
  const [x, y] = await Promise.all([a, b].map((png) => sharp(Buffer.from(png, 'base64')).removeAlpha().raw().toBuffer()));
  return x.reduce((sum, value, i) => sum + Math.abs(value - y[i]), 0) / x.length;
}

/**
 * `clients` that each ask for the next picture as soon as they have one. A picture each comes first and does not count;
 * time ends when the last has come.
 */
export async function measure(server, prompt, clients, seconds, ways) {
  let seed = 1_000_000;
  const latencies = [];
  await drawTogether(server, prompt, Array.from({ length: clients }, () => seed++), ways);
  const begin = performance.now();
  const client = async () => {
    while (performance.now() - begin < seconds * 1000) {
      const sent = performance.now();
      await draw(server, prompt, seed++, ways);
      latencies.push(performance.now() - sent);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const elapsedSeconds = (performance.now() - begin) / 1000;
  return { picturesPerSecond: latencies.length / elapsedSeconds, medianMs: latencies.sort((a, b) => a - b)[latencies.length >> 1] };
}
