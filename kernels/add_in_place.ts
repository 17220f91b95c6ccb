/** sum += value, elementwise. Joins two contributions to one gradient. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface AddInPlaceParams {
  readonly elements: number;
}

/** Bindings: sum [elements] (read_write), value [elements]. */
export function plan({ elements }: AddInPlaceParams): KernelPlan {
  return {
    shader: 'add_in_place.wgsl',
    prelude: { COUNT: elements },
    grid: foldGrid(Math.ceil(elements / 256)),
    bindings: ['read_write', 'read'],
    flops: elements,
    bytes: 12 * elements,
  };
}
