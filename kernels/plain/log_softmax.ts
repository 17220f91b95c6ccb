/** Log-softmax of rows of logits, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';
import { wideRowLanes } from '../wide_rows.js';

export interface LogSoftmaxParams {
  readonly rows: number;
  /** Prototypes: a multiple of 4. */
  readonly columns: number;
}

/** Bindings: z [rows, columns], l [rows, columns]. */
export function plan({ rows, columns }: LogSoftmaxParams): KernelPlan {
  return {
    shader: 'plain/log_softmax.wgsl',
    prelude: { ROWS: rows, QUADS: quadsOf('plain/log_softmax', columns), WIDTH: wideRowLanes(columns) },
    grid: foldGrid(rows),
    bindings: ['read', 'read_write'],
    flops: 8 * rows * columns,
    bytes: 8 * rows * columns,
  };
}
