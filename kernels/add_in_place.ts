/** sum += value, elementwise. Joins two contributions to one gradient. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise, type Storage, storedBytes } from './storage.js';

export interface AddInPlaceParams {
  readonly elements: number;
  readonly storage?: Storage;
}

/** Bindings: sum [elements] (read_write), value [elements]. */
export function plan({ elements, storage = 'f32' }: AddInPlaceParams): KernelPlan {
  const { count, includes } = elementwise(elements, storage);
  return {
    shader: 'add_in_place.wgsl',
    includes,
    prelude: { COUNT: count },
    grid: foldGrid(Math.ceil(count / 256)),
    bindings: ['read_write', 'read'],
    flops: elements,
    bytes: 3 * storedBytes(storage) * elements,
  };
}
