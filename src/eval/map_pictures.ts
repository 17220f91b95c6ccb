/** Maps as pictures that one can look at: classes in colours of their own, metres along a colour ramp, errors from black to white. */

import { resizeTarget } from '../data/dense_source.js';
import type { RgbImage } from '../data/picture.js';
import { resizeRgb } from '../data/resize.js';
import type { Picture } from './result.js';

type Colour = readonly [number, number, number];

/** Viridis at equal steps: dark is near (or low), yellow far (or high). */
const RAMP: readonly Colour[] = [
  [68, 1, 84],
  [72, 40, 120],
  [62, 74, 137],
  [49, 104, 142],
  [38, 130, 142],
  [31, 158, 137],
  [53, 183, 121],
  [110, 206, 88],
  [181, 222, 43],
  [253, 231, 37],
];

/** Of errors: none is black. */
const HEAT: readonly Colour[] = [
  [0, 0, 0],
  [120, 20, 10],
  [220, 70, 20],
  [250, 180, 40],
  [255, 255, 230],
];

/** Of pixels without a value. */
const NOTHING: Colour = [60, 60, 60];

function along(ramp: readonly Colour[], share: number): Colour {
  const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(at), ramp.length - 2);
  const rest = at - low;
  return [0, 1, 2].map((k) => Math.round(ramp[low][k] + (ramp[low + 1][k] - ramp[low][k]) * rest)) as unknown as Colour;
}

/** The colour of a class: hues a golden angle apart, three lightnesses, so that neighbours in the list differ most. */
export function classColour(label: number): Colour {
  const hue = (label * 137.508) % 360;
  const lightness = [0.5, 0.68, 0.36][Math.floor(label / 9) % 3];
  const chroma = 0.75 * (1 - Math.abs(2 * lightness - 1));
  const channel = (shift: number): number => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1)) * 0.66));
  };
  return [channel(0), channel(8), channel(4)].map((value) => Math.min(Math.max(value, 0), 255)) as unknown as Colour;
}

interface Sized {
  readonly width: number;
  readonly height: number;
}

function painted({ width, height }: Sized, colour: (pixel: number) => Colour): Picture {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) data.set(colour(i), 3 * i);
  return { width, height, data };
}

/** Labels u8 [height, width] in their classes' colours; 255 is grey. */
export function labelPicture(labels: Uint8Array, size: Sized): Picture {
  const colours = Array.from({ length: 256 }, (_, label) => (label === 255 ? NOTHING : classColour(label)));
  return painted(size, (i) => colours[labels[i]]);
}

/** Where prediction and truth differ: white where wrong, black where right, grey where nothing is known. */
export function labelErrorPicture(truth: Uint8Array, prediction: Uint8Array, size: Sized): Picture {
  return painted(size, (i) => (truth[i] === 255 ? NOTHING : truth[i] === prediction[i] ? HEAT[0] : HEAT[4]));
}

/** Metres between `low` and `high` along the ramp; NaN is grey. */
export function metrePicture(metres: Float32Array, size: Sized, low: number, high: number): Picture {
  return painted(size, (i) => (Number.isNaN(metres[i]) ? NOTHING : along(RAMP, (metres[i] - low) / (high - low || 1))));
}

/** Errors in metres from 0 to `high`. */
export function metreErrorPicture(truth: Float32Array, prediction: Float32Array, size: Sized, high: number): Picture {
  return painted(size, (i) =>
    Number.isNaN(truth[i]) ? NOTHING : along(HEAT, Math.abs(prediction[i] - truth[i]) / (high || 1)),
  );
}

/** The picture with a map laid over it, half and half. The map is brought to the picture's size. */
export function overlay(image: RgbImage, map: Picture): Picture {
  const { width, height } = image;
  const same = resizeMapPicture(map, width, height);
  return { width, height, data: image.data.map((value, i) => (value + same.data[i]) >> 1) };
}

/** Nearest neighbour: colours of a map mean something and must not be mixed. */
function resizeMapPicture(map: Picture, width: number, height: number): Picture {
  if (map.width === width && map.height === height) return map;
  const places = resizeTarget(
    { ...map, values: Float32Array.from({ length: map.width * map.height }, (_, i) => i) },
    width,
    height,
  ).values;
  return painted({ width, height }, (i) => {
    const at = 3 * places[i];
    return [map.data[at], map.data[at + 1], map.data[at + 2]];
  });
}

/** Sides of pictures in a gallery. */
const GALLERY_WIDTH = 240;

/** A photograph for a gallery. */
export function galleryPhoto(image: RgbImage): Picture {
  const height = Math.max(Math.round((image.height * GALLERY_WIDTH) / image.width), 1);
  return resizeRgb(image, GALLERY_WIDTH, height);
}

/** A map for a gallery, of the size of `photo`. */
export function galleryMap(map: Picture, photo: Picture): Picture {
  return resizeMapPicture(map, photo.width, photo.height);
}
