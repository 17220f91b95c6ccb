/** L2 normalisation of rows: x / max(|x|, epsilon) (spec §2.1). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowGroups, rowLanes } from './row_lanes.js';

export interface L2NormalizeParams {
  /** Rows written. */
  readonly rows: number;
  readonly columns: number;
  /** First row of x that is read. */
  readonly from: number;
  readonly epsilon: number;
}

/** Bindings: x [from + rows or more, columns], y [rows, columns], norms [rows]. */
export function plan({ rows, columns, from, epsilon }: L2NormalizeParams, caps: Capabilities): KernelPlan {
  const lanes = rowLanes(columns, caps);
  return {
    shader: 'l2_normalize.wgsl',
    prelude: { LANES: lanes, R: rows, D: columns, FROM: from, EPS: epsilon },
    grid: foldGrid(rowGroups(rows, lanes)),
    bindings: ['read', 'read_write', 'read_write'],
    flops: 3 * rows * columns,
    bytes: 4 * (2 * rows * columns + rows),
  };
}
