/** Small pictures for sheets and pages. */

import sharp from 'sharp';
import { resizeRgb } from '../../data/resize.js';
import type { RgbImage } from '../../data/picture.js';

/** The central square at `side` pixels. */
export function shrunk(image: RgbImage, side: number): RgbImage {
  const { width, height } = image;
  const shorter = Math.min(width, height);
  const box = {
    x: Math.floor((width - shorter) / 2),
    y: Math.floor((height - shorter) / 2),
    width: shorter,
    height: shorter,
  };
  return resizeRgb(image, side, side, box);
}

const JPEG_QUALITY = 82;

/** As a `data:` URL, for pages that load nothing. */
export async function dataUrl({ width, height, data }: RgbImage): Promise<string> {
  const jpeg = await sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: JPEG_QUALITY })
    .toBuffer();
  return `data:image/jpeg;base64,${jpeg.toString('base64')}`;
}

/** Squares of one side in lines of `columns`, as one picture: one decode for a page of thousands. */
export function tiled(squares: readonly RgbImage[], side: number, columns: number): RgbImage {
  const width = columns * side;
  const height = Math.max(Math.ceil(squares.length / columns), 1) * side;
  const data = new Uint8Array(width * height * 3);
  squares.forEach((square, i) => {
    const [left, top] = [(i % columns) * side, Math.floor(i / columns) * side];
    for (let y = 0; y < side; y++) {
      data.set(square.data.subarray(y * side * 3, (y + 1) * side * 3), ((top + y) * width + left) * 3);
    }
  });
  return { width, height, data };
}
