/** The kept token rows of every residual branch, and their inverse, from random ranks (stochastic depth, spec §1.6). */

import type { KernelPlan } from '../src/gpu/kernel_plan.js';

export interface DropPathRowsParams {
  readonly branches: number;
  readonly groups: number;
  /** Token rows of the packed matrix. */
  readonly rows: number;
  /** Elements from one branch to the next, in each of the three tensors. */
  readonly rankPitch: number;
  readonly indexPitch: number;
  readonly inversePitch: number;
}

/**
 * Bindings: ranks u32 [branches, rankPitch], groups u32 [groups, 4] (first row, first sequence, length, end row), kept
 * u32 [branches, groups, 2] (kept sequences, first kept row), index u32 [branches, indexPitch], inverse u32 [branches, inversePitch].
 */
export function plan(params: DropPathRowsParams): KernelPlan {
  const { branches, groups, rows, rankPitch, indexPitch, inversePitch } = params;
  return {
    shader: 'drop_path_rows.wgsl',
    prelude: {
      N: rows,
      GROUPS: groups,
      RANK_PITCH: rankPitch,
      INDEX_PITCH: indexPitch,
      INVERSE_PITCH: inversePitch,
    },
    grid: [Math.ceil(rows / 64), branches, 1],
    bindings: ['read', 'read', 'read', 'read_write', 'read_write'],
    flops: 0,
    bytes: 4 * branches * (rankPitch + indexPitch + rows),
  };
}
