/** The gradient of the rectifier, from its result. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { ReluParams } from './relu.js';
import { elementwise } from './storage.js';

/** Bindings: y f32 [elements], dy f32 [elements], dx f32 [elements]. */
export function plan({ elements, offset }: ReluParams): KernelPlan {
  const { count, includes } = elementwise(elements, 'f32');
  return {
    shader: 'relu_backward.wgsl',
    includes,
    prelude: { OFFSET: offset },
    parameters: [count],
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: elements,
    bytes: 12 * elements,
  };
}
