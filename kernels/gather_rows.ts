/** Rows of a matrix by an index: tokens of one kind out of packed sequences. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise, type Storage, storedBytes } from './storage.js';

export interface GatherRowsParams {
  /** Of the index. */
  readonly rows: number;
  readonly columns: number;
  readonly storage?: Storage;
}

/** Bindings: source, index u32 [rows], gathered [rows, columns]. */
export function plan({ rows, columns, storage = 'f32' }: GatherRowsParams): KernelPlan {
  const { count: width, includes } = elementwise(columns, storage);
  return {
    shader: 'gather_rows.wgsl',
    includes,
    prelude: { ROWS: rows, WIDTH: width },
    grid: foldGrid(Math.ceil((rows * width) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 0,
    bytes: 2 * storedBytes(storage) * rows * columns + 4 * rows,
  };
}
