/** Cross-entropy of student logits against one or two teacher rows each, a row a workgroup (spec §2.4, §2.5). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { wideRowLanes } from './wide_rows.js';

export interface CrossEntropyParams {
  /** Student rows. */
  readonly rows: number;
  /** Prototypes. */
  readonly columns: number;
  /** Rows of the target matrix. */
  readonly targetRows: number;
  /** Target rows of each student row. */
  readonly pairs: number;
  /** Student temperature: 0.1 everywhere in DINOv2, hence a constant. */
  readonly temperature: number;
}

/**
 * Bindings: student [rows, columns], targets [targetRows, columns], pairs u32 [rows, pairs], weights [rows],
 * loss [rows], statistics [rows, 2] (log-sum-exp, sum of the targets).
 */
export function plan({ rows, columns, targetRows, pairs, temperature }: CrossEntropyParams): KernelPlan {
  return {
    shader: 'cross_entropy.wgsl',
    prelude: { WIDTH: wideRowLanes(columns), R: rows, K: columns, PAIRS: pairs, TAU: temperature },
    grid: foldGrid(rows),
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: (10 + pairs) * rows * columns,
    bytes: 4 * ((rows + targetRows) * columns + (4 + pairs) * rows),
  };
}
