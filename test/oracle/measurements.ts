/** Measurements for the log in float64. */

import { l2Normalize } from './l2_normalize.js';

/** Mean entropy of rows of probabilities. */
export function entropy(targets: ArrayLike<number>, columns: number): number {
  let sum = 0;
  for (let i = 0; i < targets.length; i++) if (targets[i] > 0) sum -= targets[i] * Math.log(targets[i]);
  return sum / (targets.length / columns);
}

/** Mean over dimensions of the standard deviation over rows of the normalised rows. */
export function featureDeviation(x: ArrayLike<number>, columns: number): number {
  const unit = l2Normalize(x, columns);
  const rows = x.length / columns;
  let sum = 0;
  for (let c = 0; c < columns; c++) {
    let mean = 0;
    let squares = 0;
    for (let r = 0; r < rows; r++) mean += unit[r * columns + c] / rows;
    for (let r = 0; r < rows; r++) squares += (unit[r * columns + c] - mean) ** 2;
    sum += Math.sqrt(squares / rows);
  }
  return sum / columns;
}
