/** Weight normalisation of the head's last layer: row k is g_k v_k / |v_k| (spec §2.1). */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { rowGroups, rowLanes } from './row_lanes.js';

export interface WeightNormParams {
  /** Prototypes. */
  readonly rows: number;
  readonly columns: number;
}

/** Bindings: v [rows, columns], g [rows], w [rows, columns], 1 / |v_k| [rows]. */
export function plan({ rows, columns }: WeightNormParams, caps: Capabilities): KernelPlan {
  const lanes = rowLanes(columns, caps);
  return {
    shader: 'weight_norm.wgsl',
    prelude: { LANES: lanes, K: rows, D: columns },
    grid: foldGrid(rowGroups(rows, lanes)),
    bindings: ['read', 'read', 'read_write', 'read_write'],
    flops: 3 * rows * columns,
    bytes: 4 * (2 * rows * columns + 2 * rows),
  };
}
