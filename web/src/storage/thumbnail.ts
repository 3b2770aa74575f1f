/** Longest side of what history keeps; smaller pictures are kept as they are. */
const LONGEST = 160;

export async function thumbnailOf(mime: string, bytes: Uint8Array<ArrayBuffer>): Promise<Blob> {
  const original = new Blob([bytes], { type: mime });
  const bitmap = await createImageBitmap(original);
  const scale = LONGEST / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return original;
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext('2d');
  if (context === null) return original;
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => { canvas.toBlob((blob) => { resolve(blob ?? original); }, 'image/webp', 0.85); });
}
