/** First stage of layer-norm's weight and bias gradients; `sum_partials` is the second. */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface LayerNormBackwardWeightParams {
  /** Rows of y. */
  readonly rows: number;
  readonly columns: number;
  readonly parts: number;
  readonly rowsPerPart: number;
  readonly gather: boolean;
}

/** Bindings: x, statistics [rows, 2], row index u32 [rows] (any without `gather`), dy [rows, columns], partial [2, parts, columns]. */
export function plan({ rows, columns, parts, rowsPerPart, gather }: LayerNormBackwardWeightParams): KernelPlan {
  return {
    shader: 'layer_norm_backward_weight.wgsl',
    prelude: { R: rows, D: columns, PARTS: parts, ROWS_PER_PART: rowsPerPart, GATHER: gather },
    grid: [Math.ceil(columns / 64), parts, 1],
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 4 * (2 * rows * columns + 4 * parts * columns),
  };
}
