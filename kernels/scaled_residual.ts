/** The residual add of a block with LayerScale and batch-subset stochastic depth (spec §1.3, §1.6). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ScaledResidualParams {
  readonly rows: number;
  readonly columns: number;
  /** Whether the branch was computed for some rows only. */
  readonly subset: boolean;
  readonly gamma: boolean;
}

/** Bindings: x [rows, columns], branch [rows or kept, columns], gamma [columns], inverse u32 [rows], scale [kept], out.
 * Any bound tensor stands in for gamma, inverse and scale where they are not used. */
export function plan({ rows, columns, subset, gamma }: ScaledResidualParams): KernelPlan {
  return {
    shader: 'scaled_residual.wgsl',
    prelude: { N: rows, D: columns, SUBSET: subset, GAMMA: gamma },
    grid: foldGrid(Math.ceil((rows * columns) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 3 * rows * columns,
    bytes: 12 * rows * columns,
  };
}
