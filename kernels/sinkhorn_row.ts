/** Sinkhorn-Knopp's normalisation over prototypes: one shift per sample. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { TargetRowsParams } from './softmax_center.js';
import { wideRowLanes } from './wide_rows.js';

/**
 * Bindings: logits [from + rows or more, columns], temperature [1], count u32 [1] (any tensor without `counted`),
 * center [columns], row shift [rows].
 */
export function plan({ rows, from, columns, counted }: TargetRowsParams): KernelPlan {
  return {
    shader: 'sinkhorn_row.wgsl',
    prelude: { WIDTH: wideRowLanes(columns), ROWS: rows, FROM: from, K: columns, COUNTED: counted },
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 4 * (rows * columns + columns + rows),
  };
}
