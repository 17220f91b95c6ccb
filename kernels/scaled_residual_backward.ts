/** Gradients of the residual add: the branch's, and the first stage of LayerScale's. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ScaledResidualBackwardParams {
  /** Rows of the branch. */
  readonly rows: number;
  readonly columns: number;
  readonly parts: number;
  readonly rowsPerPart: number;
  readonly subset: boolean;
  readonly gamma: boolean;
}

/**
 * Bindings: dout [N, columns], branch [rows, columns], gamma [columns], row index u32 [rows], scale [rows],
 * dbranch [rows, columns], partial [parts, columns]. Any bound tensor stands in for what is not used.
 */
export function plan({ rows, columns, parts, rowsPerPart, subset, gamma }: ScaledResidualBackwardParams): KernelPlan {
  return {
    shader: 'scaled_residual_backward.wgsl',
    prelude: { R: rows, D: columns, ROWS_PER_PART: rowsPerPart, SUBSET: subset, GAMMA: gamma },
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: 4 * rows * columns,
    bytes: 12 * rows * columns,
  };
}
