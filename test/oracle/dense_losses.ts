/** What dense heads end in, in float64: label cross-entropy, depth from bins, the two losses of depth maps. */

import type { MapSize } from './dense_maps.js';

/** Mean over the rows whose label is a class and not 255; 0 where there is none. */
export function pixelCrossEntropy(logits: ArrayLike<number>, labels: ArrayLike<number>): number {
  const classes = logits.length / labels.length;
  let sum = 0;
  let count = 0;
  for (let r = 0; r < labels.length; r++) {
    if (labels[r] === 255 || labels[r] >= classes) continue;
    const row = Array.from({ length: classes }, (_, k) => logits[r * classes + k]);
    const largest = Math.max(...row);
    sum += largest + Math.log(row.reduce((a, v) => a + Math.exp(v - largest), 0)) - row[labels[r]];
    count++;
  }
  return count > 0 ? sum / count : 0;
}

export function depthBins(logits: ArrayLike<number>, bins: number, min: number, max: number): Float64Array {
  return Float64Array.from({ length: logits.length / bins }, (_, r) => {
    let sum = 0;
    let weighted = 0;
    for (let k = 0; k < bins; k++) {
      const share = Math.max(logits[r * bins + k], 0) + 0.1;
      sum += share;
      weighted += share * (min + ((max - min) * k) / (bins - 1));
    }
    return weighted / sum;
  });
}

function counts(truth: number, maxDepth = Number.POSITIVE_INFINITY): boolean {
  return Number.isFinite(truth) && truth > 0 && truth <= maxDepth;
}

function logError(prediction: number, truth: number): number {
  return Math.log(Math.max(prediction, 0) + 1e-3) - Math.log(truth + 1e-3);
}

export function sigLoss(
  prediction: ArrayLike<number>,
  truth: ArrayLike<number>,
  warmUp: boolean,
  maxDepth?: number,
): number {
  const errors: number[] = [];
  for (let r = 0; r < truth.length; r++) {
    if (counts(truth[r], maxDepth)) errors.push(logError(prediction[r], truth[r]));
  }
  if (errors.length === 0) return 0;
  const mean = errors.reduce((a, b) => a + b, 0) / errors.length;
  const squares = errors.reduce((a, b) => a + (b - mean) ** 2, 0);
  const variance = warmUp || errors.length === 1 ? 0 : squares / (errors.length - 1);
  return Math.sqrt(variance + 0.15 * mean ** 2);
}

export function gradientLoss(
  prediction: ArrayLike<number>,
  truth: ArrayLike<number>,
  { pictures, height, width }: MapSize,
  maxDepth?: number,
): number {
  let loss = 0;
  for (const stride of [1, 2, 4, 6]) {
    let sum = 0;
    let valid = 0;
    const error = (n: number, v: number, u: number): number | undefined => {
      if (v >= height || u >= width) return undefined;
      const r = (n * height + v) * width + u;
      return counts(truth[r], maxDepth) ? logError(prediction[r], truth[r]) : undefined;
    };
    for (let n = 0; n < pictures; n++) {
      for (let v = 0; v < height; v += stride) {
        for (let u = 0; u < width; u += stride) {
          const d = error(n, v, u);
          if (d === undefined) continue;
          valid++;
          for (const other of [error(n, v + 2 * stride, u), error(n, v, u + 2 * stride)]) {
            if (other !== undefined) sum += Math.abs(d - other);
          }
        }
      }
    }
    if (valid > 0) loss += sum / valid;
  }
  return loss;
}
