/** Standard deviation of each column over the rows, divided by the number of columns. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ColumnDeviationParams {
  readonly rows: number;
  readonly columns: number;
}

/** Bindings: x [rows, columns], deviation [columns]. */
export function plan({ rows, columns }: ColumnDeviationParams): KernelPlan {
  return {
    shader: 'column_deviation.wgsl',
    prelude: { R: rows, D: columns },
    grid: [Math.ceil(columns / 64), 1, 1],
    bindings: ['read', 'read_write'],
    flops: 4 * rows * columns,
    bytes: 4 * (rows + 1) * columns,
  };
}
