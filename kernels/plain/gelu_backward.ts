/** The gradient of the exact GELU, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface GeluBackwardParams {
  /** A multiple of 4. */
  readonly elements: number;
}

/** Bindings: u [elements], dy [elements], du [elements]. */
export function plan({ elements }: GeluBackwardParams): KernelPlan {
  const count = quadsOf('plain/gelu_backward', elements);
  return {
    shader: 'plain/gelu_backward.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: 25 * elements,
    bytes: 12 * elements,
  };
}
