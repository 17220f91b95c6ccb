/** Layer-norm's input gradient, with the gathered rows' scatter and the sum with an earlier gradient in the same pass. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface LayerNormBackwardParams {
  /** Rows of x, all of which get a gradient. */
  readonly rows: number;
  readonly columns: number;
  /** Rows of y where the forward pass read x through an index; `inverse` is then needed. */
  readonly kept?: number;
  /** Whether `sum` is added. */
  readonly add: boolean;
  /** Of x, dy, sum and dx. */
  readonly storage?: Storage;
}

/**
 * Bindings: x [rows, columns], weight f32 [columns], statistics f32 [rows of y, 2], inverse u32 [rows] (any tensor without
 * `kept`), dy [rows of y, columns], sum [rows, columns] (any tensor without `add`), dx [rows, columns].
 */
export function plan(
  { rows, columns, kept, add, storage = 'f32' }: LayerNormBackwardParams,
  caps: Capabilities,
): KernelPlan {
  const element = storedBytes(storage);
  const made = kept ?? rows;
  const { grid, include, prelude } = rowWork('layer_norm_backward', rows, columns, 8 * element, caps);
  return {
    shader: 'layer_norm_backward.wgsl',
    includes: [quadInclude(storage), include],
    prelude: { ...prelude, N: rows, GATHER: kept !== undefined, ADD: add },
    grid,
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 12 * made * columns,
    bytes:
      element * (2 * made + (add ? 2 : 1) * rows) * columns +
      4 * columns +
      8 * made +
      (kept === undefined ? 0 : 4 * rows),
  };
}
