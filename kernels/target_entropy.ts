/** Entropy of each target row, over the number of used rows. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TargetRowsParams } from './softmax_center.js';
import { wideRowLanes } from './wide_rows.js';

/** Bindings: targets [from + rows or more, columns], count u32 [1] (any tensor without `counted`), entropy [rows]. */
export function plan({ rows, from, columns, counted }: TargetRowsParams): KernelPlan {
  return {
    shader: 'target_entropy.wgsl',
    prelude: { WIDTH: wideRowLanes(columns), ROWS: rows, FROM: from, K: columns, COUNTED: counted },
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read_write'],
    flops: 3 * rows * columns,
    bytes: 4 * (rows * columns + rows),
  };
}
