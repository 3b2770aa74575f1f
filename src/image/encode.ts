import sharp from 'sharp';
import type { OutputFormat } from '../jobs/job.js';

export interface RgbImage {
  width: number;
  height: number;
  /** height x width x 3, row major. */
  rgb: Uint8Array;
}

export const CONTENT_TYPES: Readonly<Record<OutputFormat, string>> = {
  png: 'image/png',
  jpeg: 'image/jpeg',
  webp: 'image/webp',
};

/** The clients' 0 … 100 as a quality; the encoders count from 1. */
function qualityOf(compression: number): number {
  return Math.max(1, compression);
}

/**
 * RGB to a file, on libuv's threads. Equal pixels give equal bytes: no timestamps, no metadata, fixed settings.
 * PNG is lossless, so its level only trades time for size; 3 is within a few percent of 6 at half the time.
 */
export async function encodeImage(image: RgbImage, format: OutputFormat, compression: number): Promise<Buffer> {
  const { width, height, rgb } = image;
  if (rgb.length !== width * height * 3) {
    throw new RangeError(`a ${width}x${height} picture has ${width * height * 3} bytes, received ${rgb.length}`);
  }
  const pixels = sharp(rgb, { raw: { width, height, channels: 3 } });
  switch (format) {
    case 'png':
      return pixels.png({ compressionLevel: 3 }).toBuffer();
    case 'jpeg': {
      const quality = qualityOf(compression);
      // Halved colour resolution shows on flat colours; who asks for quality gets all of it.
      return pixels.jpeg({ quality, chromaSubsampling: quality >= 90 ? '4:4:4' : '4:2:0' }).toBuffer();
    }
    case 'webp':
      return pixels.webp({ quality: qualityOf(compression) }).toBuffer();
  }
}
