/** Fills a tensor with counter-based random numbers. Stream and range are data, so all fills share two pipelines. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface RandomFillParams {
  readonly elements: number;
  /** Standard normal instead of uniform. */
  readonly normal: boolean;
}

/** Bindings: seed u32 [3] (low, high, step), parameters u32 [3] (stream, bits of centre and scale), out [elements]. */
export function plan({ elements, normal }: RandomFillParams): KernelPlan {
  return {
    shader: 'random_fill.wgsl',
    prelude: { NORMAL: normal },
    grid: foldGrid(Math.ceil(elements / 256)),
    bindings: ['read', 'read', 'read_write'],
    flops: (normal ? 20 : 3) * elements,
    bytes: 4 * elements,
  };
}
