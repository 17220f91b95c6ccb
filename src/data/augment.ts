/**
 * The multi-crop augmentation of DINOv2 (spec §3.4): two global and several local views of one picture, each a random
 * resized crop, flip, colour jitter, greyscale, blur and, for the second global view, solarization. Pillow's and
 * torchvision's semantics, own code, no native library: the same bits on every machine. Normalisation to mean and
 * standard deviation happens on the GPU.
 *
 * Drawing the parameters of a view and rendering it are separate, so that a parity test can inject the parameters.
 */

import {
  adjustBrightness,
  adjustContrast,
  adjustHue,
  adjustSaturation,
  gaussianBlur,
  solarize,
  toGrayscale,
} from './colour.js';
import type { RgbImage } from './picture.js';
import { type Box, resizeInto, resizeRgb } from './resize.js';

export { resizeRgb } from './resize.js';

/** What the augmentation needs of a random generator; `CounterRandom` is one. */
export interface AugmentRandom {
  uniform(lo?: number, hi?: number): number;
  integer(loInclusive: number, hiInclusive: number): number;
  permutation(n: number): Uint32Array;
}

/** The three kinds of view, which differ in size, scale, blur and solarization. */
export type View = 'global1' | 'global2' | 'local';

/** Sizes in pixels, scales as fractions of the picture's area, probabilities in [0, 1]. */
export interface CropSettings {
  globalSize: number;
  localSize: number;
  localCount: number;
  /** 1: the first global view only, as probes and fine-tuning see a picture. Default 2. */
  globalCount?: 1 | 2;
  globalScale: [number, number];
  localScale: [number, number];
  blurProbability: { global1: number; global2: number; local: number };
  /** Standard deviation of the blur in pixels, drawn between these. */
  blurSigma: [number, number];
  solarizeProbability: { global1: number; global2: number; local: number };
  flip: number;
  jitterProbability: number;
  grayscaleProbability: number;
  /** Jitter strengths: factors are drawn from 1 ± strength, the hue from ± strength of a full circle. */
  brightness: number;
  contrast: number;
  saturation: number;
  hue: number;
}

/**
 * The released models' recipe. The blur probabilities are the effective ones: the official code hands 1 − p to
 * `RandomApply`, so the nominal 1.0 / 0.1 / 0.5 became 0.0 / 0.9 / 0.5, and the published weights were trained that way.
 */
export const DEFAULT_CROPS: CropSettings = {
  globalSize: 224,
  localSize: 96,
  localCount: 8,
  globalScale: [0.32, 1],
  localScale: [0.05, 0.32],
  blurProbability: { global1: 0, global2: 0.9, local: 0.5 },
  blurSigma: [0.1, 2],
  solarizeProbability: { global1: 0, global2: 0.2, local: 0 },
  flip: 0.5,
  jitterProbability: 0.8,
  grayscaleProbability: 0.2,
  brightness: 0.4,
  contrast: 0.4,
  saturation: 0.2,
  hue: 0.1,
};

const ASPECT_LOW = 3 / 4;
const ASPECT_HIGH = 4 / 3;
const SOLARIZE_THRESHOLD = 128;

/** The colour operations in torchvision's numbering; `ColorJitter` applies them in random order. */
const JITTER_OPERATIONS = ['brightness', 'contrast', 'saturation', 'hue'] as const;

/** Everything random about one view of one picture. */
export interface CropParameters {
  readonly box: Box;
  readonly flip: boolean;
  /** Absent: no colour jitter. `order` is a permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue. */
  readonly jitter?: {
    readonly order: ArrayLike<number>;
    readonly brightness: number;
    readonly contrast: number;
    readonly saturation: number;
    readonly hue: number;
  };
  readonly grayscale: boolean;
  /** In pixels of the crop; absent: no blur. */
  readonly blurSigma?: number;
  readonly solarize: boolean;
}

/** Python's `round`: halves go to the even neighbour. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/**
 * The box of torchvision's `RandomResizedCrop`: up to ten tries of an area U(scale)·W·H and an aspect log-uniform in
 * [3/4, 4/3] that fit; then the largest centred box whose aspect is in the range.
 */
export function randomCropBox(
  width: number,
  height: number,
  scale: readonly [number, number],
  random: AugmentRandom,
): Box {
  const logLow = Math.log(ASPECT_LOW);
  const logHigh = Math.log(ASPECT_HIGH);
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = width * height * random.uniform(scale[0], scale[1]);
    const aspect = Math.exp(random.uniform(logLow, logHigh));
    const w = roundHalfEven(Math.sqrt(area * aspect));
    const h = roundHalfEven(Math.sqrt(area / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      const y = random.integer(0, height - h);
      const x = random.integer(0, width - w);
      return { x, y, width: w, height: h };
    }
  }
  let w = width;
  let h = height;
  // A picture a few pixels thin rounds to zero on the other side here; one pixel is the least that can be cut.
  if (width / height < ASPECT_LOW) h = Math.max(roundHalfEven(width / ASPECT_LOW), 1);
  else if (width / height > ASPECT_HIGH) w = Math.max(roundHalfEven(height * ASPECT_HIGH), 1);
  return { x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h };
}

/** Draws one view of a `width` × `height` picture. */
export function drawCrop(
  view: View,
  width: number,
  height: number,
  settings: CropSettings,
  random: AugmentRandom,
): CropParameters {
  const happens = (probability: number) => random.uniform() < probability;
  const around = (centre: number, strength: number) =>
    random.uniform(Math.max(centre - strength, 0), centre + strength);
  const box = randomCropBox(width, height, view === 'local' ? settings.localScale : settings.globalScale, random);
  const flip = happens(settings.flip);
  const jitter = happens(settings.jitterProbability)
    ? {
        order: random.permutation(JITTER_OPERATIONS.length),
        brightness: around(1, settings.brightness),
        contrast: around(1, settings.contrast),
        saturation: around(1, settings.saturation),
        hue: random.uniform(-settings.hue, settings.hue),
      }
    : undefined;
  const grayscale = happens(settings.grayscaleProbability);
  const blurSigma = happens(settings.blurProbability[view])
    ? random.uniform(settings.blurSigma[0], settings.blurSigma[1])
    : undefined;
  const solarized = settings.solarizeProbability[view] > 0 && happens(settings.solarizeProbability[view]);
  return { box, flip, jitter, grayscale, blurSigma, solarize: solarized };
}

/** Mirrors `[size, size, 3]` pixels left to right, in place. */
function flipHorizontal(pixels: Uint8Array, size: number): void {
  for (let y = 0; y < size; y++) {
    let left = y * size * 3;
    let right = left + (size - 1) * 3;
    while (left < right) {
      for (let c = 0; c < 3; c++) {
        const value = pixels[left + c];
        pixels[left + c] = pixels[right + c];
        pixels[right + c] = value;
      }
      left += 3;
      right -= 3;
    }
  }
}

/** Renders one view into `out`, `[size, size, 3]`, in the order crop, flip, jitter, greyscale, blur, solarize. */
export function renderCrop(image: RgbImage, parameters: CropParameters, size: number, out: Uint8Array): void {
  resizeInto(image, parameters.box, size, size, out);
  if (parameters.flip) flipHorizontal(out, size);
  const { jitter } = parameters;
  if (jitter) {
    // torchvision leaves an operation of strength 0 out; a factor of 1 changes nothing either way, except for the hue,
    // where the trip through 8-bit HSV would.
    for (let i = 0; i < JITTER_OPERATIONS.length; i++) {
      const operation = JITTER_OPERATIONS[jitter.order[i]];
      if (operation === 'brightness') adjustBrightness(out, jitter.brightness);
      else if (operation === 'contrast') adjustContrast(out, jitter.contrast);
      else if (operation === 'saturation') adjustSaturation(out, jitter.saturation);
      else if (jitter.hue !== 0) adjustHue(out, jitter.hue);
    }
  }
  if (parameters.grayscale) toGrayscale(out);
  if (parameters.blurSigma !== undefined) gaussianBlur(out, size, size, parameters.blurSigma);
  if (parameters.solarize) solarize(out, SOLARIZE_THRESHOLD);
}

/** The views of one picture: each `[size, size, 3]` 8-bit pixels. */
export interface Views {
  readonly global: readonly Uint8Array[];
  readonly local: readonly Uint8Array[];
}

function allocateViews(settings: CropSettings): Views {
  const globalBytes = settings.globalSize ** 2 * 3;
  const localBytes = settings.localSize ** 2 * 3;
  return {
    global: Array.from({ length: settings.globalCount ?? 2 }, () => new Uint8Array(globalBytes)),
    local: Array.from({ length: settings.localCount }, () => new Uint8Array(localBytes)),
  };
}

/**
 * Cuts all views of one picture: first global, second global, locals, all drawn from `random` in this order.
 * @param views where to write them; allocated when absent
 */
export function multiCrop(
  image: RgbImage,
  settings: CropSettings,
  random: AugmentRandom,
  views: Views = allocateViews(settings),
): Views {
  const cut = (view: View, size: number, out: Uint8Array) =>
    renderCrop(image, drawCrop(view, image.width, image.height, settings, random), size, out);
  cut('global1', settings.globalSize, views.global[0]);
  if (settings.globalCount !== 1) cut('global2', settings.globalSize, views.global[1]);
  for (const local of views.local) cut('local', settings.localSize, local);
  return views;
}

/**
 * The evaluation transform (spec §6.1): shorter side to `resizeShort` (the longer one cut to a whole pixel), then the
 * central `cropSize` square, padded with black if the picture is smaller. Returns `[cropSize, cropSize, 3]`.
 */
export function evalCrop(image: RgbImage, resizeShort: number, cropSize: number): Uint8Array {
  const { width, height } = image;
  const portrait = width <= height;
  const long = Math.trunc((resizeShort * Math.max(width, height)) / Math.min(width, height));
  const resized = portrait ? resizeRgb(image, resizeShort, long) : resizeRgb(image, long, resizeShort);
  const out = new Uint8Array(cropSize * cropSize * 3);
  // torchvision pads a side that is too short by half on the left, rounded down, and crops one that is too long at
  // `round(half)`, rounded to even.
  const offset = (size: number) =>
    size < cropSize ? -Math.floor((cropSize - size) / 2) : roundHalfEven((size - cropSize) / 2);
  const left = offset(resized.width);
  const top = offset(resized.height);
  const from = Math.max(left, 0);
  const to = Math.min(left + cropSize, resized.width);
  for (let y = Math.max(top, 0); y < Math.min(top + cropSize, resized.height); y++) {
    const row = y * resized.width;
    out.set(resized.data.subarray((row + from) * 3, (row + to) * 3), ((y - top) * cropSize + from - left) * 3);
  }
  return out;
}
