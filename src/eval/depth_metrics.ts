/**
 * Errors of depth maps (spec §6.5.4). The official figures are means over pictures of each picture's own figure; so are these,
 * and "RMSE, pixels" is the root over all pixels at once, which pictures with many measurements weigh more in.
 */

import type { Box } from '../data/resize.js';
import type { SummedMetrics } from './picture_sums.js';

export const EVALUATION_CROPS = ['eigen', 'garg', 'none'] as const;
export type EvaluationCrop = (typeof EVALUATION_CROPS)[number];

/** Sides of NYU's frames, and the part of them that Eigen et al. (2014) count: rows 45 to 470, columns 41 to 600. */
const NYU = { width: 640, height: 480, left: 41, right: 601, top: 45, bottom: 471 };

/** Garg et al. (2016), as shares of a KITTI frame. */
const GARG = { left: 0.03594771, right: 0.96405229, top: 0.40810811, bottom: 0.99189189 };

/** The part of a picture of these sides that counts. Bounds are cut to whole pixels, as `int()` does in the official code. */
export function evaluationCrop(crop: EvaluationCrop, width: number, height: number): Box {
  if (crop === 'none') return { x: 0, y: 0, width, height };
  const [across, down] = crop === 'eigen' ? [width / NYU.width, height / NYU.height] : [width, height];
  const { left, right, top, bottom } = crop === 'eigen' ? NYU : GARG;
  const [x, y] = [Math.trunc(left * across), Math.trunc(top * down)];
  return { x, y, width: Math.trunc(right * across) - x, height: Math.trunc(bottom * down) - y };
}

export interface DepthRange {
  /** Metres. Truth counts between them; predictions are clamped to them. */
  readonly min: number;
  readonly max: number;
}

/** NYU; KITTI has a max of 80. */
export const NYU_RANGE: DepthRange = { min: 0.001, max: 10 };

/**
 * Figures of one picture, the row of {@link DEPTH_METRICS}.
 * @param truth metres, f32 [height, width]; NaN: not measured
 * @param prediction the same; NaN counts as `min`, infinity as `max`
 * @returns undefined where no pixel counts
 */
export function depthErrors(
  truth: Float32Array,
  prediction: Float32Array,
  width: number,
  within: Box,
  { min, max }: DepthRange,
): Float64Array | undefined {
  let pixels = 0;
  const close = [0, 0, 0];
  const sums = { absolute: 0, squaredRelative: 0, squared: 0, log10: 0, log: 0, squaredLog: 0 };
  for (let y = within.y; y < within.y + within.height; y++) {
    for (let x = within.x; x < within.x + within.width; x++) {
      const g = truth[y * width + x];
      if (!(g > min && g < max)) continue;
      const raw = prediction[y * width + x];
      const p = raw > max ? max : raw > min ? raw : min;
      pixels++;
      const ratio = Math.max(p / g, g / p);
      for (let i = 0; i < 3; i++) if (ratio < 1.25 ** (i + 1)) close[i]++;
      const difference = p - g;
      const log = Math.log(p) - Math.log(g);
      sums.absolute += Math.abs(difference) / g;
      sums.squaredRelative += (difference * difference) / g;
      sums.squared += difference * difference;
      sums.log10 += Math.abs(log) / Math.LN10;
      sums.log += log;
      sums.squaredLog += log * log;
    }
  }
  if (pixels === 0) return undefined;
  const mean = (sum: number): number => sum / pixels;
  const variance = Math.max(mean(sums.squaredLog) - mean(sums.log) ** 2, 0);
  return Float64Array.of(
    1,
    Math.sqrt(mean(sums.squared)),
    mean(sums.absolute),
    mean(sums.log10),
    ...close.map((count) => 100 * mean(count)),
    mean(sums.squaredRelative),
    Math.sqrt(mean(sums.squaredLog)),
    100 * Math.sqrt(variance),
    pixels,
    sums.squared,
  );
}

/** a1 to a3 are shares of pixels with max(p/g, g/p) < 1.25, 1.25², 1.25³; silog is 100 times the deviation of the log error. */
export const DEPTH_METRICS: SummedMetrics = {
  kinds: [
    { name: 'RMSE', unit: 'm', better: 'lower' },
    { name: 'abs rel', unit: '', better: 'lower' },
    { name: 'log10', unit: '', better: 'lower' },
    { name: 'a1', unit: '%', better: 'higher' },
    { name: 'a2', unit: '%', better: 'higher' },
    { name: 'a3', unit: '%', better: 'higher' },
    { name: 'sq rel', unit: 'm', better: 'lower' },
    { name: 'RMSE log', unit: '', better: 'lower' },
    { name: 'silog', unit: '', better: 'lower' },
    { name: 'RMSE, pixels', unit: 'm', better: 'lower' },
  ],
  values: (sums) => [...Array.from(sums.subarray(1, 10), (sum) => sum / sums[0]), Math.sqrt(sums[11] / sums[10])],
};
