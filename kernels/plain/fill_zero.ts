/** Zeros, for a gradient that only some rows reach. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface FillZeroParams {
  /** A multiple of 4. */
  readonly elements: number;
}

/** Bindings: x [elements]. */
export function plan({ elements }: FillZeroParams): KernelPlan {
  const count = quadsOf('plain/fill_zero', elements);
  return {
    shader: 'plain/fill_zero.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read_write'],
    flops: 0,
    bytes: 4 * elements,
  };
}
