/**
 * The photometric half of the augmentation (spec §3.4), in place on `[h, w, 3]` 8-bit pixels, with the arithmetic of
 * Pillow (ImageEnhance, HSV, ImageOps) and torchvision (Gaussian blur), float32 roundings included: official runs were
 * made through those, and a colour jitter of another kind is another recipe.
 */

const fround = Math.fround;

/** Pillow's conversion to 'L': ITU-R 601-2 in 16-bit fixed point, rounded. */
function luma(red: number, green: number, blue: number): number {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

/** Pillow's `Image.blend` of one value: float32, clipped, cut (not rounded) to 8 bits. */
function blend(from: number, to: number, factor: number): number {
  const value = fround(from + fround(factor * (to - from)));
  return value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
}

/** Blends every value with the constant `grey`; a constant partner makes it a table of 256. */
function blendWithConstant(pixels: Uint8Array, grey: number, factor: number): void {
  const single = fround(factor);
  const table = new Uint8Array(256);
  for (let value = 0; value < 256; value++) table[value] = blend(grey, value, single);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[pixels[i]];
}

/** `ImageEnhance.Brightness`: blend with black; factor 1 changes nothing. */
export function adjustBrightness(pixels: Uint8Array, factor: number): void {
  blendWithConstant(pixels, 0, factor);
}

/** `ImageEnhance.Contrast`: blend with the constant `int(mean luma + 0.5)`. */
export function adjustContrast(pixels: Uint8Array, factor: number): void {
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 3) sum += luma(pixels[i], pixels[i + 1], pixels[i + 2]);
  blendWithConstant(pixels, Math.trunc(sum / (pixels.length / 3) + 0.5), factor);
}

/** `ImageEnhance.Color`: blend with the picture's own luma. */
export function adjustSaturation(pixels: Uint8Array, factor: number): void {
  const single = fround(factor);
  // factor · difference, for differences −255…255.
  const products = new Float32Array(511);
  for (let i = 0; i < 511; i++) products[i] = single * (i - 255);
  for (let i = 0; i < pixels.length; i += 3) {
    const grey = luma(pixels[i], pixels[i + 1], pixels[i + 2]);
    for (let c = i; c < i + 3; c++) {
      const value = fround(grey + products[pixels[c] - grey + 255]);
      pixels[c] = value <= 0 ? 0 : value >= 255 ? 255 : Math.trunc(value);
    }
  }
}

/** Sector 0…5 of the colour wheel and the position inside it for each 8-bit hue of Pillow's HSV. */
const HUE_SECTOR = new Uint8Array(256);
const HUE_FRACTION = new Float32Array(256);
for (let hue = 0; hue < 256; hue++) {
  const position = (hue * 6) / 255;
  HUE_SECTOR[hue] = Math.floor(position) % 6;
  HUE_FRACTION[hue] = position - Math.floor(position);
}

/**
 * Turns the hue by `factor` of a full circle, −0.5…0.5: adds `int(factor · 255)` modulo 256 to the 8-bit H of Pillow's
 * HSV. The way through 8-bit HSV and back loses up to a few levels even for a factor of 0; so does the original.
 */
export function adjustHue(pixels: Uint8Array, factor: number): void {
  const shift = Math.trunc(factor * 255);
  for (let i = 0; i < pixels.length; i += 3) {
    const red = pixels[i];
    const green = pixels[i + 1];
    const blue = pixels[i + 2];
    const value = Math.max(red, green, blue);
    const chroma = value - Math.min(red, green, blue);
    // A grey has saturation 0, which maps back to itself.
    if (chroma === 0) continue;
    const toRed = fround((value - red) / chroma);
    const toGreen = fround((value - green) / chroma);
    const toBlue = fround((value - blue) / chroma);
    let sixths: number;
    if (red === value) sixths = fround(toBlue - toGreen);
    else if (green === value) sixths = fround(2 + toRed - toBlue);
    else sixths = fround(4 + toGreen - toRed);
    const turns = sixths / 6 + 1;
    const hue = (Math.trunc(fround(turns >= 1 ? turns - 1 : turns) * 255) + shift) & 255;
    const saturation = fround(Math.trunc(fround(chroma / value) * 255) / 255);
    if (saturation === 0) {
      pixels[i] = value;
      pixels[i + 1] = value;
      pixels[i + 2] = value;
      continue;
    }
    const fraction = HUE_FRACTION[hue];
    const p = Math.floor(value * (1 - saturation) + 0.5);
    const q = Math.floor(value * (1 - fround(saturation * fraction)) + 0.5);
    const t = Math.floor(value * (1 - saturation * (1 - fraction)) + 0.5);
    switch (HUE_SECTOR[hue]) {
      case 0:
        setPixel(pixels, i, value, t, p);
        break;
      case 1:
        setPixel(pixels, i, q, value, p);
        break;
      case 2:
        setPixel(pixels, i, p, value, t);
        break;
      case 3:
        setPixel(pixels, i, p, q, value);
        break;
      case 4:
        setPixel(pixels, i, t, p, value);
        break;
      default:
        setPixel(pixels, i, value, p, q);
    }
  }
}

function setPixel(pixels: Uint8Array, at: number, red: number, green: number, blue: number): void {
  pixels[at] = red;
  pixels[at + 1] = green;
  pixels[at + 2] = blue;
}

/** Replaces every pixel by its luma in all three channels. */
export function toGrayscale(pixels: Uint8Array): void {
  for (let i = 0; i < pixels.length; i += 3) {
    const grey = luma(pixels[i], pixels[i + 1], pixels[i + 2]);
    setPixel(pixels, i, grey, grey, grey);
  }
}

/** Inverts every value of at least `threshold`. */
export function solarize(pixels: Uint8Array, threshold = 128): void {
  for (let i = 0; i < pixels.length; i++) if (pixels[i] >= threshold) pixels[i] = 255 - pixels[i];
}

/** Half the width of the 9-tap blur. */
const BLUR_RADIUS = 4;

/** Index inside 0…size−1 after reflecting at the borders without repeating them (… 2 1 | 0 1 2 … n−1 | n−2 …). */
function reflect(index: number, size: number): number {
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const folded = ((index % period) + period) % period;
  return folded < size ? folded : period - folded;
}

/** Scratch of the blur, kept between calls: the rows after the horizontal pass, one row with its reflected ends. */
let blurredRows = new Float64Array(0);
let paddedRow = new Float64Array(0);

/**
 * 9-tap normalised Gaussian on each axis with reflected borders, rounded once at the end (torchvision's
 * `gaussian_blur(kernel_size=9)`). `pixels` is `[height, width, 3]`; `sigma` is in pixels.
 */
export function gaussianBlur(pixels: Uint8Array, width: number, height: number, sigma: number): void {
  const taps = new Float64Array(BLUR_RADIUS + 1);
  let sum = 0;
  for (let d = 0; d <= BLUR_RADIUS; d++) {
    taps[d] = Math.exp(-0.5 * (d / sigma) ** 2);
    sum += d === 0 ? taps[d] : 2 * taps[d];
  }
  const [k0, k1, k2, k3, k4] = taps.map((tap) => tap / sum);

  const rowLength = width * 3;
  if (blurredRows.length < height * rowLength) blurredRows = new Float64Array(height * rowLength);
  if (paddedRow.length < rowLength + 6 * BLUR_RADIUS) paddedRow = new Float64Array(rowLength + 6 * BLUR_RADIUS);
  const rows = blurredRows;
  const line = paddedRow;
  for (let y = 0; y < height; y++) {
    const row = y * rowLength;
    for (let i = 0; i < rowLength; i++) line[3 * BLUR_RADIUS + i] = pixels[row + i];
    for (let d = 1; d <= BLUR_RADIUS; d++) {
      for (let c = 0; c < 3; c++) {
        line[3 * (BLUR_RADIUS - d) + c] = pixels[row + 3 * reflect(-d, width) + c];
        line[3 * (BLUR_RADIUS + width - 1 + d) + c] = pixels[row + 3 * reflect(width - 1 + d, width) + c];
      }
    }
    for (let i = 0; i < rowLength; i++) {
      rows[row + i] =
        k0 * line[i + 12] +
        k1 * (line[i + 9] + line[i + 15]) +
        k2 * (line[i + 6] + line[i + 18]) +
        k3 * (line[i + 3] + line[i + 21]) +
        k4 * (line[i] + line[i + 24]);
    }
  }
  for (let y = 0; y < height; y++) {
    const [u4, u3, u2, u1, c, d1, d2, d3, d4] = [-4, -3, -2, -1, 0, 1, 2, 3, 4].map(
      (d) => reflect(y + d, height) * rowLength,
    );
    const row = y * rowLength;
    for (let i = 0; i < rowLength; i++) {
      pixels[row + i] =
        k0 * rows[c + i] +
        k1 * (rows[u1 + i] + rows[d1 + i]) +
        k2 * (rows[u2 + i] + rows[d2 + i]) +
        k3 * (rows[u3 + i] + rows[d3 + i]) +
        k4 * (rows[u4 + i] + rows[d4 + i]) +
        0.5;
    }
  }
}
