/** Cross-entropy of student rows against teacher rows in float64, as the definition reads. */

import { linear } from './linear.js';

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
  readonly student: ArrayLike<number>;
  readonly columns: number;
  /** The target of each student row, [R, columns]: a row that is compared with two has their sum. */
  readonly targets: ArrayLike<number>;
  readonly weights: ArrayLike<number>;
  readonly temperature: number;
}

interface Row {
  readonly index: number;
  readonly weight: number;
  readonly student: Float64Array;
  readonly target: Float64Array;
}

function rowsOf({ student, columns, targets, weights }: CrossEntropyCase): Row[] {
  const row = (values: ArrayLike<number>, r: number): Float64Array =>
    Float64Array.from({ length: columns }, (_, k) => values[r * columns + k]);
  return Array.from(weights, (weight, r) => ({ index: r, weight, student: row(student, r), target: row(targets, r) }));
}

/** weights[r] CE(targets[r], student[r]). */
export function crossEntropyRows(options: CrossEntropyCase): Float64Array {
  return Float64Array.from(rowsOf(options), ({ weight, student, target }) =>
    weight === 0 ? 0 : weight * crossEntropyOfRow(target, student, options.temperature),
  );
}

/** The gradient of each row's loss in its logits [R, columns]. */
export function crossEntropyGradient(options: CrossEntropyCase): Float64Array {
  const { columns, temperature } = options;
  const gradient = new Float64Array(options.weights.length * columns);
  for (const { index, weight, student, target } of rowsOf(options)) {
    if (weight === 0) continue;
    const mass = target.reduce((a, b) => a + b, 0);
    const row = logSoftmax(student, temperature).map(
      (log, k) => (weight / temperature) * (mass * Math.exp(log) - target[k]),
    );
    gradient.set(row, index * columns);
  }
  return gradient;
}

export interface PrototypeLossCase extends Omit<CrossEntropyCase, 'student'> {
  /** [R, width] and [columns, width]. */
  readonly features: Float64Array;
  readonly weight: Float64Array;
  readonly width: number;
  /** Rows of each term. */
  readonly termRows: readonly number[];
}

/** The cross-entropies of features weightᵀ, summed to terms. */
export function prototypeLoss(options: PrototypeLossCase): Float64Array {
  const { features, weight, width, termRows, columns } = options;
  const student = linear(features, weight, new Float64Array(columns), width);
  const rows = crossEntropyRows({ ...options, student });
  let row = 0;
  return Float64Array.from(termRows, (count) => {
    let term = 0;
    for (const end = row + count; row < end; row++) term += rows[row];
    return term;
  });
}
