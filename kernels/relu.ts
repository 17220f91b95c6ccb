/** The rectifier with a constant added: max(x, 0) + offset. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { elementwise } from './storage.js';

export interface ReluParams {
  /** Any number. */
  readonly elements: number;
  readonly offset: number;
}

/** Bindings: x f32 [elements], y f32 [elements]. */
export function plan({ elements, offset }: ReluParams): KernelPlan {
  const { count, includes } = elementwise(elements, 'f32');
  return {
    shader: 'relu.wgsl',
    includes,
    prelude: { OFFSET: offset },
    parameters: [count],
    grid: foldGrid(Math.ceil(count / 64)),
    bindings: ['read', 'read_write'],
    flops: 2 * elements,
    bytes: 8 * elements,
  };
}
