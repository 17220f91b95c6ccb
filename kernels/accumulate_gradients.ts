/** sum = value or sum + value over a flat buffer of gradients: the micro-batches of one step. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadsOf } from './storage.js';

export interface AccumulateGradientsParams {
  /** Multiple of 4. */
  readonly elements: number;
}

/** Bindings: sum [elements] (read_write), value [elements], first u32 [1]: not 0 where the sum begins with this value. */
export function plan({ elements }: AccumulateGradientsParams): KernelPlan {
  const count = quadsOf('accumulate_gradients', elements);
  return {
    shader: 'accumulate_gradients.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read_write', 'read', 'read'],
    flops: elements,
    bytes: 12 * elements,
  };
}
