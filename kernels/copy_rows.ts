/** Copies a range of rows from one matrix into another. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface CopyRowsParams {
  readonly rows: number;
  readonly columns: number;
  readonly from: number;
  readonly to: number;
}

/** Bindings: source, copied. */
export function plan({ rows, columns, from, to }: CopyRowsParams): KernelPlan {
  return {
    shader: 'copy_rows.wgsl',
    prelude: { ROWS: rows, D: columns, FROM: from, TO: to },
    grid: foldGrid(Math.ceil((rows * columns) / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 8 * rows * columns,
  };
}
