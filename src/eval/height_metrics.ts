/**
 * Errors of height maps, in metres. Every picture weighs the same, and in it every pixel with data: sets mix maps of 1 m and of
 * 0.15 m a pixel, and a sum over all pixels would judge the finest ones alone.
 *
 * Edge error: with S the Sobel gradient's magnitude (in metres a pixel of the map; a ramp of 1 m a pixel has 1), the mean of
 * |S(prediction) - S(truth)| over the pixels where S(truth) is 1 m a pixel or more, that is at crowns' borders. Predictions that
 * are right on the average but smooth have a small MAE and an edge error near S(truth) itself.
 */

import type { SummedMetrics } from './picture_sums.js';

/** Metres a pixel from which on a border is one. */
export const EDGE_SLOPE = 1;

/** Sobel magnitude; NaN at the frame and where any of the nine pixels is NaN. f32 [height, width] both. */
export function sobelMagnitude(map: Float32Array, width: number, height: number): Float32Array {
  const out = new Float32Array(map.length).fill(Number.NaN);
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x;
      const [above, below] = [i - width, i + width];
      const across = map[above + 1] - map[above - 1] + 2 * (map[i + 1] - map[i - 1]) + map[below + 1] - map[below - 1];
      const down = map[below - 1] - map[above - 1] + 2 * (map[below] - map[above]) + map[below + 1] - map[above + 1];
      // A hole in the middle is multiplied by nothing above.
      out[i] = Math.sqrt(across * across + down * down) / 8 + 0 * map[i];
    }
  }
  return out;
}

/**
 * Means of one picture, the row of {@link HEIGHT_METRICS}.
 * @param truth metres, f32 [height, width]; NaN: no data
 * @param prediction the same, without NaN
 * @returns undefined where no pixel has data
 */
export function heightErrors(
  truth: Float32Array,
  prediction: Float32Array,
  width: number,
  height: number,
): Float64Array | undefined {
  const sums = new Float64Array(8);
  for (let i = 0; i < truth.length; i++) {
    const g = truth[i];
    if (Number.isNaN(g)) continue;
    const error = prediction[i] - g;
    sums[0]++;
    sums[1] += g;
    sums[2] += g * g;
    sums[3] += error;
    sums[4] += Math.abs(error);
    sums[5] += error * error;
  }
  const pixels = sums[0];
  if (pixels === 0) return undefined;
  for (let i = 0; i < 6; i++) sums[i] /= pixels;
  const edges = sobelMagnitude(truth, width, height);
  const predicted = sobelMagnitude(prediction, width, height);
  for (let i = 0; i < edges.length; i++) {
    if (!(edges[i] >= EDGE_SLOPE)) continue;
    sums[6]++;
    sums[7] += Math.abs(predicted[i] - edges[i]);
  }
  if (sums[6] > 0) {
    sums[7] /= sums[6];
    sums[6] = 1;
  }
  return sums;
}

/** R² is 1 - (sum of squared errors) / (sum of squared distances of the truth from its mean), with these weights. */
export const HEIGHT_METRICS: SummedMetrics = {
  kinds: [
    { name: 'MAE', unit: 'm', better: 'lower' },
    { name: 'RMSE', unit: 'm', better: 'lower' },
    { name: 'R2', unit: '', better: 'higher' },
    { name: 'bias', unit: 'm', better: 'lower' },
    { name: 'edge error', unit: 'm', better: 'lower' },
  ],
  values: ([weight, height, squaredHeight, error, absolute, squared, edges, edgeError]) => [
    absolute / weight,
    Math.sqrt(squared / weight),
    1 - squared / (squaredHeight - (height * height) / weight),
    error / weight,
    edgeError / edges,
  ],
};
