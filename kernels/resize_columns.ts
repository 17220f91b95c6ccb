/** Pads every row of a matrix with zeros, or cuts it: a gemm's vectors want columns in multiples of four. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ResizeColumnsParams {
  readonly rows: number;
  readonly from: number;
  readonly to: number;
}

/** Bindings: x [rows, from], resized [rows, to]. */
export function plan({ rows, from, to }: ResizeColumnsParams): KernelPlan {
  return {
    shader: 'resize_columns.wgsl',
    prelude: { ROWS: rows, FROM_COLUMNS: from, TO_COLUMNS: to },
    grid: foldGrid(Math.ceil((rows * to) / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 8 * rows * to,
  };
}
