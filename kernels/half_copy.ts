/** half = float32 values in half precision, over a flat buffer of parameters: the weights that half activations meet. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf } from './storage.js';

export interface HalfCopyParams {
  /** Multiple of 4. */
  readonly elements: number;
}

/** Bindings: values f32 [elements], halves f16 [elements]. */
export function plan({ elements }: HalfCopyParams): KernelPlan {
  const count = quadsOf('half_copy', elements);
  return {
    shader: 'half_copy.wgsl',
    includes: [quadInclude('f16')],
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read_write'],
    flops: 0,
    bytes: 6 * elements,
  };
}
