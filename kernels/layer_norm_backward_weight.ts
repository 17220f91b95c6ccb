/** First stage of layer-norm's weight and bias gradients; `column_sum_partials` is the second. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { columnWork, type RowParts } from './column_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface LayerNormBackwardWeightParams extends RowParts {
  /** Rows of y. */
  readonly rows: number;
  readonly columns: number;
  readonly gather: boolean;
  /** Of x and dy. */
  readonly storage?: Storage;
}

/**
 * Bindings: x [any, columns], statistics f32 [rows, 2], row index u32 [rows] (any tensor without `gather`),
 * dy [rows, columns], partial f32 [2, parts, columns].
 */
export function plan(
  { rows, columns, parts, rowsPerPart, gather, storage = 'f32' }: LayerNormBackwardWeightParams,
  caps: Capabilities,
): KernelPlan {
  const { groups, prelude } = columnWork('layer_norm_backward_weight', columns, caps);
  return {
    shader: 'layer_norm_backward_weight.wgsl',
    includes: [quadInclude(storage)],
    prelude: { ...prelude, R: rows, PARTS: parts, ROWS_PER_PART: rowsPerPart, GATHER: gather },
    grid: [groups, parts, 1],
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * columns,
    bytes: 2 * storedBytes(storage) * rows * columns + 8 * parts * columns + (gather ? 12 : 8) * rows,
  };
}
