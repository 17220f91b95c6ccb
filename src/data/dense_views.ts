/**
 * Random views of a picture and its target for heads that predict a value a pixel (spec §6.5.4, §6.6.1). A view is one affine
 * map from its pixels to the picture's, scaling, cutting, mirroring and turning at once, and a change of colour; the picture is
 * sampled bilinearly, the target by its nearest value. All numbers come from one stream, drawn before anything is rendered.
 *
 * What differs from the official pipelines: resizing, cropping and mirroring sample the picture once instead of one after the
 * other, with a halved picture where it shrinks much; saturation blends with grey instead of scaling HSV's S; what lies outside the picture has the mean colour of ImageNet
 * (there: 0 after normalisation; black in the corners of a turned picture), and no target.
 */

import type { AugmentRandom } from './augment.js';
import { adjustHue, adjustSaturation } from './colour.js';
import { IGNORED, type TargetMap } from './dense_source.js';
import type { RgbImage } from './picture.js';
import type { Box } from './resize.js';

/** ImageNet's mean in 8 bits: next to 0 after normalisation. */
export const PADDING: readonly [number, number, number] = [124, 116, 104];

/** Outputs pixel (x, y) shows the picture's pixel (a x + b y + c, d x + e y + f); whole numbers are pixel centres. */
export type Affine = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

/** What happens to the colours. */
export type ColourChange =
  | {
      /** mmseg's photometric distortion. Absent parts do not happen. */
      readonly kind: 'photometric';
      readonly brightness?: number;
      readonly contrast?: number;
      readonly contrastFirst: boolean;
      readonly saturation?: number;
      /** Of a full circle. */
      readonly hue?: number;
    }
  | {
      readonly kind: 'gamma';
      readonly gamma: number;
      readonly brightness: number;
      readonly colour: readonly [number, number, number];
    };

export interface DenseView {
  readonly width: number;
  readonly height: number;
  readonly map: Affine;
  /** The part of the picture that may be shown; the rest is as if outside. */
  readonly within: Box;
  readonly colour?: ColourChange;
}

/** The picture at half its sides: means of 2 x 2 pixels. */
function halved({ width: W, height: H, data }: RgbImage): RgbImage {
  const [width, height] = [Math.max(W >> 1, 1), Math.max(H >> 1, 1)];
  const half = new Uint8Array(3 * width * height);
  const [right, below] = [W > 1 ? 3 : 0, H > 1 ? 3 * W : 0];
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, from = 6 * y * W; x < width; x++, from += 6) {
      for (let k = 0; k < 3; k++, to++) {
        const i = from + k;
        half[to] = (data[i] + data[i + right] + data[i + below] + data[i + right + below] + 2) >> 2;
      }
    }
  }
  return { width, height, data: half };
}

/** Renders the picture, u8 [height, width, 3], into `out`. One that shrinks by 2 or more is halved first, against aliasing. */
export function renderPicture(picture: RgbImage, view: DenseView, out: Uint8Array): void {
  const { width, height } = view;
  let [image, map, within] = [picture, view.map, view.within];
  while (Math.min(Math.hypot(map[0], map[3]), Math.hypot(map[1], map[4])) >= 2) {
    image = halved(image);
    const [a, b, c, d, e, f] = map;
    map = [a / 2, b / 2, (c - 0.5) / 2, d / 2, e / 2, (f - 0.5) / 2];
    const [x, y] = [within.x >> 1, within.y >> 1];
    within = {
      x,
      y,
      width: Math.max(Math.min(within.width >> 1, image.width - x), 1),
      height: Math.max(Math.min(within.height >> 1, image.height - y), 1),
    };
  }
  const [a, b, c, d, e, f] = map;
  const { data } = image;
  const stride = 3 * image.width;
  const [left, top] = [within.x, within.y];
  const [right, bottom] = [within.x + within.width - 1, within.y + within.height - 1];
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const sourceX = a * x + b * y + c;
      const sourceY = d * x + e * y + f;
      // Half a pixel beyond the border still belongs to the picture.
      if (sourceX < left - 0.5 || sourceX > right + 0.5 || sourceY < top - 0.5 || sourceY > bottom + 0.5) {
        out[to] = PADDING[0];
        out[to + 1] = PADDING[1];
        out[to + 2] = PADDING[2];
        continue;
      }
      const clampedX = Math.min(Math.max(sourceX, left), right);
      const clampedY = Math.min(Math.max(sourceY, top), bottom);
      const x0 = Math.floor(clampedX);
      const y0 = Math.floor(clampedY);
      const toRight = clampedX - x0;
      const toBelow = clampedY - y0;
      const upper = y0 * stride + 3 * x0;
      const lower = y0 < bottom ? upper + stride : upper;
      const step = x0 < right ? 3 : 0;
      for (let k = 0; k < 3; k++) {
        const above = data[upper + k] + (data[upper + step + k] - data[upper + k]) * toRight;
        const below = data[lower + k] + (data[lower + step + k] - data[lower + k]) * toRight;
        out[to + k] = above + (below - above) * toBelow + 0.5;
      }
    }
  }
  if (view.colour) changeColours(out.subarray(0, to), view.colour);
}

/** Renders the target into `out`, [height, width]: 255 or NaN where there is none. `size` is the picture's. */
export function renderTarget<V extends Uint8Array | Float32Array>(
  target: TargetMap<V>,
  size: { readonly width: number; readonly height: number },
  view: DenseView,
  out: V,
): void {
  const { width, height, map, within } = view;
  const [a, b, c, d, e, f] = map;
  const across = target.width / size.width;
  const down = target.height / size.height;
  const nothing = out instanceof Uint8Array ? IGNORED : Number.NaN;
  const right = within.x + within.width - 0.5;
  const bottom = within.y + within.height - 0.5;
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to++) {
      const sourceX = a * x + b * y + c;
      const sourceY = d * x + e * y + f;
      if (sourceX < within.x - 0.5 || sourceX >= right || sourceY < within.y - 0.5 || sourceY >= bottom) {
        out[to] = nothing;
        continue;
      }
      const column = Math.min(Math.floor((sourceX + 0.5) * across), target.width - 1);
      const row = Math.min(Math.floor((sourceY + 0.5) * down), target.height - 1);
      out[to] = target.values[row * target.width + column];
    }
  }
}

function tableOf(change: (value: number) => number): Uint8ClampedArray {
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => change(value));
}

function changeColours(pixels: Uint8Array, change: ColourChange): void {
  if (change.kind === 'gamma') {
    const tables = change.colour.map((factor) =>
      tableOf((value) => 255 * (value / 255) ** change.gamma * change.brightness * factor),
    );
    for (let i = 0; i < pixels.length; i++) pixels[i] = tables[i % 3][pixels[i]];
    return;
  }
  const apply = (table: Uint8ClampedArray): void => {
    for (let i = 0; i < pixels.length; i++) pixels[i] = table[pixels[i]];
  };
  const { brightness, contrast, contrastFirst, saturation, hue } = change;
  if (brightness !== undefined) apply(tableOf((value) => value + brightness));
  if (contrast !== undefined && contrastFirst) apply(tableOf((value) => value * contrast));
  if (saturation !== undefined) adjustSaturation(pixels, saturation);
  if (hue !== undefined) adjustHue(pixels, hue);
  if (contrast !== undefined && !contrastFirst) apply(tableOf((value) => value * contrast));
}

/** The picture at `scaledWidth` x `scaledHeight`, cut at (x, y), mirrored inside what the view shows of it. */
function cut(
  box: Box,
  [scaledWidth, scaledHeight]: readonly [number, number],
  [x, y]: readonly [number, number],
  [width, height]: readonly [number, number],
  mirror: { readonly across: boolean; readonly down: boolean },
): Affine {
  const stepX = box.width / scaledWidth;
  const stepY = box.height / scaledHeight;
  // A view that is larger than the picture is filled from its upper left corner.
  const shownX = Math.min(width, scaledWidth);
  const shownY = Math.min(height, scaledHeight);
  const [a, c] = mirror.across ? [-stepX, (shownX - 0.5 + x) * stepX - 0.5] : [stepX, (x + 0.5) * stepX - 0.5];
  const [e, f] = mirror.down ? [-stepY, (shownY - 0.5 + y) * stepY - 0.5] : [stepY, (y + 0.5) * stepY - 0.5];
  return [a, 0, c + box.x, 0, e, f + box.y];
}

export interface SegmentationViews {
  /** [height, width] of a view in pixels. */
  readonly crop: readonly [number, number];
  /** The shorter side of a picture before it is scaled by a ratio drawn from `ratio`. */
  readonly shorterSide: number;
  readonly ratio: readonly [number, number];
  /** A crop of which one class takes this share or more is drawn anew, up to ten times. */
  readonly largestShare: number;
  readonly flip: number;
  /** Photometric distortion. */
  readonly colour: boolean;
}

/** Official: shorter side 512 and crop 512, ratio 0.5 to 2 (linear); 640 and 640, 1 to 3 (+ms). */
export const SEGMENTATION_VIEWS = { ratio: [0.5, 2], largestShare: 0.75, flip: 0.5, colour: true } as const;

const CROP_TRIES = 10;

/** Random scale, crop, flip and photometric distortion. `target` is the picture's, of any size. */
export function drawSegmentationView(
  image: { readonly width: number; readonly height: number },
  target: TargetMap<Uint8Array>,
  settings: SegmentationViews,
  random: AugmentRandom,
): DenseView {
  const happens = (probability: number): boolean => random.uniform() < probability;
  const [height, width] = settings.crop;
  const scale = (settings.shorterSide * random.uniform(...settings.ratio)) / Math.min(image.width, image.height);
  const scaled: [number, number] = [
    Math.max(Math.round(image.width * scale), 1),
    Math.max(Math.round(image.height * scale), 1),
  ];
  const within = { x: 0, y: 0, width: image.width, height: image.height };
  const place = (): [number, number] => [
    random.integer(0, Math.max(scaled[0] - width, 0)),
    random.integer(0, Math.max(scaled[1] - height, 0)),
  ];
  const labels = new Uint8Array(width * height);
  let at = place();
  for (let tries = 1; tries < CROP_TRIES && settings.largestShare < 1; tries++) {
    const map = cut(within, scaled, at, [width, height], { across: false, down: false });
    renderTarget(target, image, { width, height, map, within }, labels);
    if (isMixed(labels, settings.largestShare)) break;
    at = place();
  }
  const map = cut(within, scaled, at, [width, height], { across: happens(settings.flip), down: false });
  if (!settings.colour) return { width, height, map, within };
  const colour: ColourChange = {
    kind: 'photometric',
    brightness: happens(0.5) ? random.uniform(-32, 32) : undefined,
    contrastFirst: happens(0.5),
    contrast: happens(0.5) ? random.uniform(0.5, 1.5) : undefined,
    saturation: happens(0.5) ? random.uniform(0.5, 1.5) : undefined,
    hue: happens(0.5) ? random.uniform(-0.1, 0.1) : undefined,
  };
  return { width, height, map, within, colour };
}

/** More than one class, none with `share` or more of the pixels that count. */
function isMixed(labels: Uint8Array, share: number): boolean {
  const counts = new Uint32Array(256);
  for (const label of labels) counts[label]++;
  let [sum, most, classes] = [0, 0, 0];
  for (let label = 0; label < IGNORED; label++) {
    if (counts[label] === 0) continue;
    sum += counts[label];
    most = Math.max(most, counts[label]);
    classes++;
  }
  return classes > 1 && most / sum < share;
}

export interface DepthViews {
  readonly crop: readonly [number, number];
  /** The shorter side of a picture; undefined: as it is. */
  readonly shorterSide?: number;
  /** The part of a picture that counts, as for `evaluationCrop`; undefined: all of it. */
  readonly within?: Box;
  /** Largest turn in degrees, and how often there is one. */
  readonly degrees: number;
  readonly turn: number;
  readonly flip: number;
  readonly colour: number;
  readonly gamma: readonly [number, number];
  readonly brightness: readonly [number, number];
  readonly channels: readonly [number, number];
}

/** Official values for NYU; KITTI has brightness 0.9 to 1.1. Crops there: 416 x 544 and 352 x 704. */
export const DEPTH_VIEWS = {
  degrees: 2.5,
  turn: 0.5,
  flip: 0.5,
  colour: 0.5,
  gamma: [0.9, 1.1],
  brightness: [0.75, 1.25],
  channels: [0.9, 1.1],
} as const;

/** Random turn, flip, crop, and gamma, brightness and colour. */
export function drawDepthView(
  image: { readonly width: number; readonly height: number },
  settings: DepthViews,
  random: AugmentRandom,
): DenseView {
  const happens = (probability: number): boolean => random.uniform() < probability;
  const within = settings.within ?? { x: 0, y: 0, width: image.width, height: image.height };
  const angle = happens(settings.turn) ? random.uniform(-settings.degrees, settings.degrees) * (Math.PI / 180) : 0;
  const across = happens(settings.flip);
  const plain = cutAtRandom(image, within, settings, { across, down: false }, random);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const centreX = within.x + (within.width - 1) / 2;
  const centreY = within.y + (within.height - 1) / 2;
  const [a, , c, , e, f] = plain;
  const map: Affine = [
    cos * a,
    -sin * e,
    cos * (c - centreX) - sin * (f - centreY) + centreX,
    sin * a,
    cos * e,
    sin * (c - centreX) + cos * (f - centreY) + centreY,
  ];
  const [height, width] = settings.crop;
  return { width, height, map, within, colour: gammaChange(settings, random) };
}

/** For pictures from above: any of the eight turns and mirrorings, crop, and gamma, brightness and colour. */
export function drawHeightView(
  image: { readonly width: number; readonly height: number },
  settings: DepthViews,
  random: AugmentRandom,
): DenseView {
  const happens = (probability: number): boolean => random.uniform() < probability;
  const within = settings.within ?? { x: 0, y: 0, width: image.width, height: image.height };
  const mirror = { across: happens(settings.flip), down: happens(settings.flip) };
  const transposed = settings.crop[0] === settings.crop[1] && happens(0.5);
  const [a, , c, , e, f] = cutAtRandom(image, within, settings, mirror, random);
  const [height, width] = settings.crop;
  // Exchanging the view's x and y turns it by a quarter and mirrors it.
  const map: Affine = transposed ? [0, a, c, e, 0, f] : [a, 0, c, 0, e, f];
  return { width, height, map, within, colour: gammaChange(settings, random) };
}

function cutAtRandom(
  image: { readonly width: number; readonly height: number },
  within: Box,
  { crop: [height, width], shorterSide }: DepthViews,
  mirror: { readonly across: boolean; readonly down: boolean },
  random: AugmentRandom,
): Affine {
  const scale = shorterSide === undefined ? 1 : shorterSide / Math.min(image.width, image.height);
  const scaled: [number, number] = [
    Math.max(Math.round(within.width * scale), 1),
    Math.max(Math.round(within.height * scale), 1),
  ];
  const at: [number, number] = [
    random.integer(0, Math.max(scaled[0] - width, 0)),
    random.integer(0, Math.max(scaled[1] - height, 0)),
  ];
  return cut(within, scaled, at, [width, height], mirror);
}

function gammaChange(settings: DepthViews, random: AugmentRandom): ColourChange | undefined {
  if (!(random.uniform() < settings.colour)) return undefined;
  const channel = (): number => random.uniform(...settings.channels);
  return {
    kind: 'gamma',
    gamma: random.uniform(...settings.gamma),
    brightness: random.uniform(...settings.brightness),
    colour: [channel(), channel(), channel()],
  };
}

/** The view of a fixed place without any change: a window of a picture that was scaled to `scaled`, [width, height]. */
export function plainView(
  image: { readonly width: number; readonly height: number },
  scaled: readonly [number, number],
  window: Box,
  flip = false,
): DenseView {
  const within = { x: 0, y: 0, width: image.width, height: image.height };
  const { width, height, x, y } = window;
  const stepX = image.width / scaled[0];
  const stepY = image.height / scaled[1];
  // Mirrored as a whole, padding included: predictions are mirrored back the same way.
  const [a, c] = flip ? [-stepX, (x + width - 0.5) * stepX - 0.5] : [stepX, (x + 0.5) * stepX - 0.5];
  return { width, height, map: [a, 0, c, 0, stepY, (y + 0.5) * stepY - 0.5], within };
}
