/** seeds = weights × loss scale: the losses' upstream gradients in mixed precision. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

/** Bindings: weights [count], state of the loss scale [5], seeds [count]. */
export function plan({ count }: { readonly count: number }): KernelPlan {
  return {
    shader: 'scale_seed.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: count,
    bytes: 8 * count,
  };
}
