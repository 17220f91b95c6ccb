/** The mask of stochastic depth: 0, or b/s for the s of b sequences that a residual branch keeps (spec §1.6). */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';

export interface DropPathMaskParams {
  /** Branches times sequences, padding included. */
  readonly elements: number;
}

/** Bindings: ranks u32 [elements], limits u32 [elements, 2] (s, b), mask [elements]. */
export function plan({ elements }: DropPathMaskParams): KernelPlan {
  return {
    shader: 'plain/drop_path_mask.wgsl',
    prelude: { COUNT: elements },
    grid: foldGrid(Math.ceil(elements / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: elements,
    bytes: 16 * elements,
  };
}
