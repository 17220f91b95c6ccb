/** Layer-norm's input gradient, with the gathered rows' scatter and the sum with an earlier gradient in the same pass. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowGroups, rowLanes } from './row_lanes.js';

export interface LayerNormBackwardParams {
  /** Rows of x, all of which get a gradient. */
  readonly rows: number;
  readonly columns: number;
  /** Whether the forward pass read x through an index; `inverse` is then needed. */
  readonly gather: boolean;
  /** Whether `sum` is added. */
  readonly add: boolean;
}

/**
 * Bindings: x [rows, columns], weight [columns], statistics [rows of y, 2], inverse u32 [rows] (any tensor without
 * `gather`), dy [rows of y, columns], sum [rows, columns] (any tensor without `add`), dx [rows, columns].
 */
export function plan({ rows, columns, gather, add }: LayerNormBackwardParams, caps: Capabilities): KernelPlan {
  const lanes = rowLanes(columns, caps);
  return {
    shader: 'layer_norm_backward.wgsl',
    prelude: { LANES: lanes, N: rows, D: columns, GATHER: gather, ADD: add },
    grid: foldGrid(rowGroups(rows, lanes)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 12 * rows * columns,
    bytes: 4 * ((add ? 4 : 3) * rows * columns + columns),
  };
}
