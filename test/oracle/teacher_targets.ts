/** Teacher targets in float64, step by step as the reference does them. */

import { logSoftmax } from './cross_entropy.js';

/** Sinkhorn-Knopp of [rows, columns] logits, with the reference's normalisations in its order. */
export function sinkhornKnopp(
  logits: ArrayLike<number>,
  columns: number,
  temperature: number,
  iterations = 3,
): Float64Array {
  const rows = logits.length / columns;
  const at = (i: number, k: number): number => i * columns + k;
  let largest = -Infinity;
  for (let i = 0; i < logits.length; i++) largest = Math.max(largest, logits[i]);
  // A global constant is neutral: the next line divides by the sum.
  const q = Float64Array.from(logits, (z) => Math.exp((z - largest) / temperature));
  const total = q.reduce((a, b) => a + b, 0);
  for (let i = 0; i < q.length; i++) q[i] /= total;
  for (let iteration = 0; iteration < iterations; iteration++) {
    for (let k = 0; k < columns; k++) {
      let sum = 0;
      for (let i = 0; i < rows; i++) sum += q[at(i, k)];
      for (let i = 0; i < rows; i++) q[at(i, k)] /= sum * columns;
    }
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += q[at(i, k)];
      for (let k = 0; k < columns; k++) q[at(i, k)] /= sum * rows;
    }
  }
  return q.map((value) => value * rows);
}

/** softmax((z - center) / temperature) of each row. */
export function softmaxCenter(logits: ArrayLike<number>, center: ArrayLike<number>, temperature: number): Float64Array {
  const columns = center.length;
  const targets = new Float64Array(logits.length);
  for (let from = 0; from < logits.length; from += columns) {
    const centered = Float64Array.from(center, (c, k) => logits[from + k] - c);
    targets.set(logSoftmax(centered, temperature).map(Math.exp), from);
  }
  return targets;
}

/** The center after one update with the mean over the rows of `logits`. */
export function updateCenter(logits: ArrayLike<number>, center: ArrayLike<number>, momentum = 0.9): Float64Array {
  const columns = center.length;
  const rows = logits.length / columns;
  return Float64Array.from(center, (c, k) => {
    let sum = 0;
    for (let i = 0; i < rows; i++) sum += logits[i * columns + k];
    return rows === 0 ? c : momentum * c + (1 - momentum) * (sum / rows);
  });
}
