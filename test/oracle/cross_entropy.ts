/** Cross-entropy of student rows against teacher rows in float64, as the definition reads. */

const NO_ROW = 0xffffffff;

/** log_softmax(row / temperature). */
export function logSoftmax(row: ArrayLike<number>, temperature: number): Float64Array {
  const z = Float64Array.from(row, (value) => value / temperature);
  const largest = z.reduce((a, b) => Math.max(a, b));
  const log = largest + Math.log(z.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  return z.map((value) => value - log);
}

/** -sum_k p_k log_softmax(s / temperature)_k. */
export function crossEntropyOfRow(p: ArrayLike<number>, s: ArrayLike<number>, temperature: number): number {
  return -logSoftmax(s, temperature).reduce((sum, value, k) => sum + p[k] * value, 0);
}

export interface CrossEntropyCase {
  readonly student: Float64Array;
  readonly targets: ArrayLike<number>;
  readonly columns: number;
  readonly pairs: ArrayLike<number>;
  readonly weights: ArrayLike<number>;
  readonly temperature: number;
  /** Rows of each term. */
  readonly termRows: readonly number[];
}

export function crossEntropy(options: CrossEntropyCase): Float64Array {
  const { student, columns, pairs, weights, temperature, termRows } = options;
  const targets = Float64Array.from(options.targets);
  const pairsPerRow = pairs.length / weights.length;
  let row = 0;
  return Float64Array.from(termRows, (rows) => {
    let term = 0;
    for (const end = row + rows; row < end; row++) {
      if (weights[row] === 0) continue;
      const s = student.subarray(row * columns, (row + 1) * columns);
      for (let p = 0; p < pairsPerRow; p++) {
        const target = pairs[row * pairsPerRow + p];
        if (target === NO_ROW) continue;
        const probabilities = targets.subarray(target * columns, (target + 1) * columns);
        term += weights[row] * crossEntropyOfRow(probabilities, s, temperature);
      }
    }
    return term;
  });
}
