import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { encodeImage } from '../../src/image/encode.js';

/** A gradient with an edge: something for every encoder to lose. */
function picture(width: number, height: number): { width: number; height: number; rgb: Uint8Array } {
  const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i % 3 === 0 ? (i * 7) % 256 : i > width * height ? 200 : 20));
  return { width, height, rgb };
}

describe('encodeImage', () => {
  it('refuses pixels that are not width x height', async () => {
    await expect(encodeImage({ ...picture(4, 4), height: 5 }, 'png', 100)).rejects.toThrow(/60 bytes, received 48/);
  });

  it('keeps every pixel in png', async () => {
    const image = picture(48, 32);
    const png = await encodeImage(image, 'png', 100);
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: 48, height: 32, channels: 3 });
    expect(Buffer.compare(data, Buffer.from(image.rgb))).toBe(0);
  });

  it.each(['png', 'jpeg', 'webp'] as const)('gives equal bytes for equal pixels in %s', async (format) => {
    const image = picture(64, 64);
    const [first, ...others] = await Promise.all(Array.from({ length: 8 }, () => encodeImage(image, format, 80)));
    for (const other of others) expect(other.equals(first!)).toBe(true);
    expect((await sharp(first).metadata()).format).toBe(format);
  });

  it.each(['jpeg', 'webp'] as const)('takes 0 to 100 as quality in %s', async (format) => {
    const [low, high] = await Promise.all([encodeImage(picture(64, 64), format, 0), encodeImage(picture(64, 64), format, 100)]);
    expect(low.length).toBeLessThan(high.length);
  });
});
