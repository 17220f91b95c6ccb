/** Rectangles of pictures as pictures: queries that are a part of a photograph. */

import { readRgb } from './decode.js';
import { CorruptPicture, type RgbImage } from './picture.js';
import type { ImageSource } from './source.js';
import sharp from 'sharp';

/** [left, top, right, bottom] in pixels; fractions are rounded. */
export type Box = readonly [number, number, number, number];

/**
 * The same pictures, cut. Closing it leaves the source open.
 * @param boxes by place; a picture without one stays whole
 */
export function croppedSource(source: ImageSource, boxes: ReadonlyMap<number, Box>): ImageSource {
  return {
    path: source.path,
    length: source.length,
    classNames: source.classNames,
    name: (index) => source.name(index),
    label: (index) => source.label(index),
    read: async (index) => {
      const box = boxes.get(index);
      if (!box) return source.read(index);
      const { width, height, data } = cut(await readRgb(source, index), box, source.name(index));
      return sharp(data, { raw: { width, height, channels: 3 } })
        .png()
        .toBuffer();
    },
    close: async () => {},
  };
}

/** @throws CorruptPicture for a box that holds no pixel of the picture */
function cut(picture: RgbImage, box: Box, name: string): RgbImage {
  const within = (value: number, most: number): number => Math.min(Math.max(Math.round(value), 0), most);
  const [left, right] = [within(box[0], picture.width), within(box[2], picture.width)];
  const [top, bottom] = [within(box[1], picture.height), within(box[3], picture.height)];
  const [width, height] = [right - left, bottom - top];
  if (width < 1 || height < 1) {
    throw new CorruptPicture(
      name,
      `has ${picture.width} x ${picture.height} px, none of them in the box ${box.join(', ')}`,
    );
  }
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = 3 * ((top + row) * picture.width + left);
    data.set(picture.data.subarray(from, from + 3 * width), 3 * row * width);
  }
  return { width, height, data };
}
