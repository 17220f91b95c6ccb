/** Gradient of the L2 normalisation of some consecutive rows, with the sum with an earlier gradient in the same pass. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowGroups, rowLanes } from './row_lanes.js';

export interface L2NormalizeBackwardParams {
  /** Rows of x, all of which get a gradient. */
  readonly sourceRows: number;
  /** Rows that were normalised, and the first of them in x. */
  readonly rows: number;
  readonly from: number;
  readonly columns: number;
  readonly epsilon: number;
  /** Whether `sum` is added. */
  readonly add: boolean;
}

/**
 * Bindings: x [sourceRows, columns], norms [rows], dy [rows, columns], sum [sourceRows, columns] (any tensor without
 * `add`), dx [sourceRows, columns].
 */
export function plan(
  { sourceRows, rows, from, columns, epsilon, add }: L2NormalizeBackwardParams,
  caps: Capabilities,
): KernelPlan {
  const lanes = rowLanes(columns, caps);
  return {
    shader: 'l2_normalize_backward.wgsl',
    prelude: { LANES: lanes, N: sourceRows, R: rows, FROM: from, D: columns, EPS: epsilon, ADD: add },
    grid: foldGrid(rowGroups(sourceRows, lanes)),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 6 * rows * columns,
    bytes: 4 * (2 * rows + (add ? 2 : 1) * sourceRows) * columns,
  };
}
