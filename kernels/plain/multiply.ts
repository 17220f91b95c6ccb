/** Elementwise product: LayerScale’s gradient before its sum over rows. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface MultiplyParams {
  /** A multiple of 4. */
  readonly elements: number;
}

/** Bindings: a [elements], b [elements], product [elements]. */
export function plan({ elements }: MultiplyParams): KernelPlan {
  const count = quadsOf('plain/multiply', elements);
  return {
    shader: 'plain/multiply.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: elements,
    bytes: 12 * elements,
  };
}
