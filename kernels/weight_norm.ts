/** Weight normalisation of the head's last layer: row k is g_k v_k / |v_k| (spec §2.1). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import type { KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowWork } from './row_lanes.js';
import { resultInclude, type Storage, storedBytes } from './storage.js';

export interface WeightNormParams {
  /** Prototypes. */
  readonly rows: number;
  readonly columns: number;
  /** Of w; v and g are float32. */
  readonly result?: Storage;
}

/** Bindings: v f32 [rows, columns], g f32 [rows], w [rows, columns], 1 / |v_k| f32 [rows]. */
export function plan({ rows, columns, result = 'f32' }: WeightNormParams, caps: Capabilities): KernelPlan {
  const { grid, include, prelude } = rowWork('weight_norm', rows, columns, 16, caps);
  return {
    shader: 'weight_norm.wgsl',
    includes: [resultInclude(result), include],
    prelude: { ...prelude, K: rows },
    grid,
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 3 * rows * columns,
    bytes: (4 + storedBytes(result)) * rows * columns + 8 * rows,
  };
}
