/** Gradients of a weight-normalised matrix in its directions and its lengths, in one pass. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';
import type { WeightNormParams } from './weight_norm.js';

/** Bindings, all f32: v [rows, columns], g [rows], 1 / |v_k| [rows], dw [rows, columns], dv [rows, columns], dg [rows]. */
export function plan({ rows, columns }: Pick<WeightNormParams, 'rows' | 'columns'>, caps: Capabilities): KernelPlan {
  const { grid, include, prelude } = rowWork('weight_norm_backward', rows, columns, 32, caps);
  return {
    shader: 'weight_norm_backward.wgsl',
    includes: [include],
    prelude: { ...prelude, K: rows },
    grid,
    bindings: ['read', 'read', 'read', 'read', 'read_write', 'read_write'],
    flops: 7 * rows * columns,
    bytes: 4 * (3 * rows * columns + 3 * rows),
  };
}
