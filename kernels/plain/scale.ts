/** A constant times x: logits over their temperature, and its gradient. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface ScaleParams {
  /** A multiple of 4. */
  readonly elements: number;
  readonly factor: number;
}

/** Bindings: x [elements], y [elements]. */
export function plan({ elements, factor }: ScaleParams): KernelPlan {
  const count = quadsOf('plain/scale', elements);
  return {
    shader: 'plain/scale.wgsl',
    prelude: { COUNT: count, FACTOR: factor },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read_write'],
    flops: elements,
    bytes: 8 * elements,
  };
}
