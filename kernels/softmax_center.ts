/** Teacher targets: softmax of centered logits (spec §2.2), which is Sinkhorn-Knopp's last step too (§2.3). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { wideRowLanes } from './wide_rows.js';

/** A range of rows of which the first few may be used. */
export interface TargetRowsParams {
  readonly rows: number;
  /** First row of the range. */
  readonly from: number;
  /** Prototypes. */
  readonly columns: number;
  /** Whether only the first count[0] rows are used. */
  readonly counted: boolean;
}

/**
 * Bindings: logits [from + rows or more, columns], temperature [1], count u32 [1] (any tensor without `counted`),
 * center [columns], targets [from + rows or more, columns].
 */
export function plan({ rows, from, columns, counted }: TargetRowsParams): KernelPlan {
  return {
    shader: 'softmax_center.wgsl',
    prelude: { WIDTH: wideRowLanes(columns), ROWS: rows, FROM: from, K: columns, COUNTED: counted },
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 9 * rows * columns,
    bytes: 4 * (2 * rows * columns + columns),
  };
}
