/** Pictures as dense visualisations take them: whole, at a size that patches divide. */

import { evalCrop, resizeRgb } from '../../data/augment.js';
import { readRgb } from '../../data/decode.js';
import { type BadPicture, CorruptPicture, type RgbImage } from '../../data/picture.js';
import type { Box } from '../../data/resize.js';
import type { ImageSource } from '../../data/source.js';
import { DataError } from '../../errors.js';

/** One picture at the size that the network sees. */
export interface Frame {
  readonly name: string;
  /** Its place in the source. */
  readonly index: number;
  readonly label: number | undefined;
  /** Sides are multiples of the patch size. */
  readonly image: RgbImage;
  /** Pixels of the file. */
  readonly original: { readonly width: number; readonly height: number };
  /** The same part for the eye: from the file's own pixels, at a whole multiple of the size of `image`. */
  readonly display: RgbImage;
  /** The part of the file that `image` shows, in its pixels. */
  readonly box: Box;
}

export interface FrameOptions {
  /** Pixels of the shorter side; a multiple of the patch size. */
  readonly shorterSide: number;
  readonly patchSize: number;
  /** The central square of the evaluation transform in place of the whole picture; `resize` is its shorter side before. */
  readonly square?: { readonly resize: number };
  readonly onBad?: (bad: BadPicture) => void;
  readonly onProgress?: (done: number) => void;
}

/** The longest side is at most this many times the shorter one; longer pictures are cut at both ends. */
const WIDEST = 3;

/**
 * [height, width] of a picture whose shorter side is scaled to `shorterSide`: the other side follows, rounded to whole patches.
 */
export function frameSize(width: number, height: number, shorterSide: number, patchSize: number): [number, number] {
  const longer = (shorterSide * Math.max(width, height)) / Math.min(width, height);
  const rounded = Math.max(Math.round(longer / patchSize), 1) * patchSize;
  return width >= height ? [shorterSide, rounded] : [rounded, shorterSide];
}

/** Places of at most `limit` pictures, evenly spread over a source. */
export function spread(length: number, limit: number): number[] {
  const count = Math.min(length, limit);
  return Array.from({ length: count }, (_, i) => Math.floor((i * length) / count));
}

/**
 * Decodes and scales the pictures at `indices`; corrupt ones are reported and left out.
 * @throws DataError if none is left
 */
export async function readFrames(
  source: ImageSource,
  indices: readonly number[],
  options: FrameOptions,
): Promise<Frame[]> {
  const frames: Frame[] = [];
  for (const index of indices) {
    const name = source.name(index);
    try {
      const picture = await readRgb(source, index);
      const { width, height } = picture;
      const { square } = options;
      const { image, box } = square ? squared(picture, square.resize, options.shorterSide) : whole(picture, options);
      const display = displayOf(picture, image, box);
      frames.push({ name, index, label: source.label(index), original: { width, height }, image, display, box });
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      options.onBad?.({ name, reason: error instanceof CorruptPicture ? error.reason : error.message });
    }
    options.onProgress?.(frames.length);
  }
  if (frames.length === 0) throw new DataError(`none of ${indices.length} pictures in ${source.path} can be read`);
  return frames;
}

/** Pixels of a shown picture's shorter side, at least: small frames are enlarged for the eye. */
const SHOWN_SIDE = 224;

function displayOf(picture: RgbImage, image: RgbImage, box: Box): RgbImage {
  const times = Math.max(Math.ceil(SHOWN_SIDE / Math.min(image.width, image.height)), 1);
  const [x, y] = [Math.max(Math.round(box.x), 0), Math.max(Math.round(box.y), 0)];
  const pixels = {
    x,
    y,
    width: Math.min(Math.round(box.width), picture.width - x),
    height: Math.min(Math.round(box.height), picture.height - y),
  };
  return resizeRgb(picture, times * image.width, times * image.height, pixels);
}

function squared(picture: RgbImage, resize: number, crop: number): Pick<Frame, 'image' | 'box'> {
  const { width, height } = picture;
  const side = (crop * Math.min(width, height)) / resize;
  return {
    image: { width: crop, height: crop, data: evalCrop(picture, resize, crop) },
    box: { x: (width - side) / 2, y: (height - side) / 2, width: side, height: side },
  };
}

function whole(picture: RgbImage, { shorterSide, patchSize }: FrameOptions): Pick<Frame, 'image' | 'box'> {
  const { width, height } = picture;
  const most = WIDEST * Math.min(width, height);
  const box = {
    x: Math.max(Math.floor((width - most) / 2), 0),
    y: Math.max(Math.floor((height - most) / 2), 0),
    width: Math.min(width, most),
    height: Math.min(height, most),
  };
  const [toHeight, toWidth] = frameSize(box.width, box.height, shorterSide, patchSize);
  return { image: resizeRgb(picture, toWidth, toHeight, box), box };
}
