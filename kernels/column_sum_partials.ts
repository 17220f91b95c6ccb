/** First stage of a column sum (bias gradients); `sum_partials` is the second. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ColumnSumParams {
  readonly rows: number;
  readonly columns: number;
  readonly parts: number;
  readonly rowsPerPart: number;
}

/** Bindings: x [rows, columns], partial [parts, columns]. */
export function plan({ rows, columns, parts, rowsPerPart }: ColumnSumParams): KernelPlan {
  return {
    shader: 'column_sum_partials.wgsl',
    prelude: { R: rows, D: columns, ROWS_PER_PART: rowsPerPart },
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read_write'],
    flops: rows * columns,
    bytes: 4 * (rows + parts) * columns,
  };
}
