/**
 * Raw pixels as features, the floor that every learned feature must beat: pictures shrunk to 12 × 12 pixels through the
 * evaluation transform, each with its own mean brightness taken away, compared by cosine like any other feature.
 */

import type { ImageSource } from '../data/source.js';
import { collectFeatures, type ExtractOptions, type SourceFeatures } from './features.js';

/** Pixels of a side. */
export const PIXEL_SIDE = 12;

const BATCH = 256;

/**
 * @param options as for `extractFeatures`; the shorter side becomes `side` pixels, then the central square is taken
 * @param side pixels of a side
 * @returns features [n, 3 side²]
 */
export function pixelFeatures(
  source: ImageSource,
  options: Omit<ExtractOptions, 'resize'> = {},
  side = PIXEL_SIDE,
): Promise<SourceFeatures> {
  const dim = 3 * side * side;
  return collectFeatures(source, { ...options, resize: side, crop: side, batchSize: BATCH, dim }, async (pixels, n) =>
    centredPixels(pixels, n, dim),
  );
}

/** Without its mean a picture is described by its pattern: a cosine of plain bytes mostly compares brightness. */
function centredPixels(pixels: Uint8Array, n: number, dim: number): Float32Array {
  const features = new Float32Array(n * dim);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < dim; j++) sum += pixels[i * dim + j];
    for (let j = 0; j < dim; j++) features[i * dim + j] = pixels[i * dim + j] - sum / dim;
  }
  return features;
}
