/**
 * Encoded bytes to 8-bit RGB through sharp (libvips), with the pixels Pillow's `open(...).convert('RGB')` gives, since
 * the official pipeline reads through Pillow: an alpha channel is dropped, colour profiles and the EXIF orientation are
 * ignored, of an animation the first frame counts. 16-bit pictures keep their upper byte.
 */
import sharp from 'sharp';
import { CorruptPicture, type RgbImage } from './picture.js';
import type { ImageSource } from './source.js';

export { CorruptPicture, type RgbImage } from './picture.js';

/** A header may promise any size; decoding more than this (300 MB of pixels) is refused before it starts. */
const MAX_PIXELS = 100e6;

/**
 * Decodes one picture.
 * @param bytes the encoded file: JPEG, PNG, WebP, AVIF, TIFF or GIF, of any colour space and depth
 * @param name for the error
 * @throws CorruptPicture if it is empty, no picture, truncated, damaged or larger than 100 megapixels
 */
export async function decodeRgb(bytes: Uint8Array, name: string): Promise<RgbImage> {
  if (bytes.length === 0) throw new CorruptPicture(name, 'is empty (0 bytes)');
  try {
    const { data, info } = await sharp(bytes, { failOn: 'error', limitInputPixels: MAX_PIXELS, ignoreIcc: true })
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    const { width, height } = info;
    return { width, height, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  } catch (error) {
    throw new CorruptPicture(name, reason(error), { cause: error });
  }
}

/**
 * One picture of a source as pixels.
 * @throws CorruptPicture if it cannot be read or decoded
 */
export async function readRgb(source: ImageSource, index: number): Promise<RgbImage> {
  return source.pixels?.(index) ?? decodeRgb(await source.read(index), source.name(index));
}

/** libvips reports several lines of library names; the log needs half a sentence. */
function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  if (/unsupported image format/i.test(message)) return 'is not a picture (unknown format)';
  if (/pixel limit/i.test(message)) return `has more than ${MAX_PIXELS / 1e6} megapixels`;
  if (/premature end|unexpected end|truncated/i.test(message)) return 'is truncated';
  const detail = message.replace(/^Input buffer has corrupt header:\s*/, 'corrupt header: ');
  return `cannot be decoded (${detail.split('\n')[0].replace(/:\s*$/, '')})`;
}
