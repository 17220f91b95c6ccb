/** Copies a range of rows from one matrix into another. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise, type Storage, storedBytes } from './storage.js';

export interface CopyRowsParams {
  readonly rows: number;
  readonly columns: number;
  readonly from: number;
  readonly to: number;
  readonly storage?: Storage;
}

/** Bindings: source, copied. */
export function plan({ rows, columns, from, to, storage = 'f32' }: CopyRowsParams): KernelPlan {
  const { count: width, includes } = elementwise(columns, storage);
  return {
    shader: 'copy_rows.wgsl',
    includes,
    prelude: { ROWS: rows, WIDTH: width, FROM: from, TO: to },
    grid: foldGrid(Math.ceil((rows * width) / 64)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 2 * storedBytes(storage) * rows * columns,
  };
}
