/** Gradients of a weight-normalised matrix in its directions and its lengths, in one pass. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowGroups, rowLanes } from './row_lanes.js';
import type { WeightNormParams } from './weight_norm.js';

/** Bindings: v [rows, columns], g [rows], 1 / |v_k| [rows], dw [rows, columns], dv [rows, columns], dg [rows]. */
export function plan({ rows, columns }: WeightNormParams, caps: Capabilities): KernelPlan {
  const lanes = rowLanes(columns, caps);
  return {
    shader: 'weight_norm_backward.wgsl',
    prelude: { LANES: lanes, K: rows, D: columns },
    grid: foldGrid(rowGroups(rows, lanes)),
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: 7 * rows * columns,
    bytes: 4 * (3 * rows * columns + 3 * rows),
  };
}
