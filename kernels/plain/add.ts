/** The residual add, by itself. */

import { foldGrid, type KernelPlan } from '../../src/gpu/kernel_plan.js';
import { quadsOf } from '../storage.js';

export interface AddParams {
  /** A multiple of 4. */
  readonly elements: number;
}

/** Bindings: a [elements], b [elements], sum [elements]. */
export function plan({ elements }: AddParams): KernelPlan {
  const count = quadsOf('plain/add', elements);
  return {
    shader: 'plain/add.wgsl',
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: elements,
    bytes: 12 * elements,
  };
}
