/** Entropy of each target row, over the number of rows. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { wideRowLanes } from './wide_rows.js';

export interface TargetEntropyParams {
  readonly rows: number;
  /** Prototypes. */
  readonly columns: number;
}

/** Bindings: targets [rows, columns], entropy [rows]. */
export function plan({ rows, columns }: TargetEntropyParams): KernelPlan {
  return {
    shader: 'target_entropy.wgsl',
    prelude: { WIDTH: wideRowLanes(columns), ROWS: rows, K: columns },
    grid: foldGrid(rows),
    bindings: ['read', 'read_write'],
    flops: 3 * rows * columns,
    bytes: 4 * (rows * columns + rows),
  };
}
