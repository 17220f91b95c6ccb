/** Layer-norm over rows, reading them through an index where one is given (spec §1.3; eps 1e-6, biased variance). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowGroups, rowLanes } from './row_lanes.js';

export interface LayerNormParams {
  /** Rows written. */
  readonly rows: number;
  readonly columns: number;
  readonly epsilon: number;
  /** Whether row r is read at rows[r]. */
  readonly gather: boolean;
}

/**
 * Bindings: x [any, columns], weight [columns], bias [columns], rows u32 [rows] (any u32 tensor without `gather`),
 * y [rows, columns], statistics [rows, 2] (mean, reciprocal standard deviation).
 */
export function plan({ rows, columns, epsilon, gather }: LayerNormParams, caps: Capabilities): KernelPlan {
  const lanes = rowLanes(columns, caps);
  return {
    shader: 'layer_norm.wgsl',
    prelude: { LANES: lanes, R: rows, D: columns, EPS: epsilon, GATHER: gather },
    grid: foldGrid(rowGroups(rows, lanes)),
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: 8 * rows * columns,
    bytes: 4 * (2 * rows * columns + 2 * rows + 2 * columns),
  };
}
