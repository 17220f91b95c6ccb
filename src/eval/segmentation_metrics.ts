/** Intersection over union and accuracies of label maps (spec §6.6.1), from counts that add up over pictures. */

import { IGNORED } from '../data/dense_source.js';
import type { SummedMetrics } from './picture_sums.js';

/**
 * Counts of one picture, the row of {@link segmentationMetrics}: for each class the pixels that are right, that have it, and
 * that are predicted to have it. Pixels whose truth is 255 do not count.
 * @param confusion where given, [classes, classes] truth by prediction, added to
 * @returns f64 [3 * classes]
 */
export function labelCounts(
  truth: Uint8Array,
  prediction: Uint8Array,
  classes: number,
  confusion?: Float64Array,
): Float64Array {
  const counts = new Float64Array(3 * classes);
  for (let i = 0; i < truth.length; i++) {
    const label = truth[i];
    if (label === IGNORED) continue;
    const predicted = prediction[i];
    if (label === predicted) counts[label]++;
    counts[classes + label]++;
    counts[2 * classes + predicted]++;
    if (confusion) confusion[label * classes + predicted]++;
  }
  return counts;
}

/** IoU of each class in percent; NaN for a class that is neither in the truth nor in the prediction. */
export function classIoU(counts: Float64Array, classes: number): Float64Array {
  return Float64Array.from({ length: classes }, (_, label) => {
    const right = counts[label];
    const union = counts[classes + label] + counts[2 * classes + label] - right;
    return union > 0 ? (100 * right) / union : Number.NaN;
  });
}

function meanOfDefined(values: ArrayLike<number>): number {
  let [sum, count] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) continue;
    sum += values[i];
    count++;
  }
  return sum / count;
}

/**
 * mIoU: mean over the classes that are in the truth or the prediction of the whole set. Pixel accuracy. Mean class accuracy:
 * over the classes in the truth. In percent.
 */
export function segmentationMetrics(classes: number): SummedMetrics {
  return {
    kinds: [
      { name: 'mIoU', unit: '%', better: 'higher' },
      { name: 'pixel accuracy', unit: '%', better: 'higher' },
      { name: 'class accuracy', unit: '%', better: 'higher' },
    ],
    values: (counts) => {
      let [right, all] = [0, 0];
      const accuracies = new Float64Array(classes);
      for (let label = 0; label < classes; label++) {
        right += counts[label];
        all += counts[classes + label];
        accuracies[label] = (100 * counts[label]) / counts[classes + label];
      }
      return [meanOfDefined(classIoU(counts, classes)), (100 * right) / all, meanOfDefined(accuracies)];
    },
  };
}
