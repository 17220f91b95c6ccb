/** First stage of the gradients' norms: squares summed chunk by chunk, and the elements that are not finite counted. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface NormPartialsParams {
  readonly chunks: number;
  /** Elements in all chunks. */
  readonly elements: number;
}

/** Bindings: gradients [flat, whole quads], chunks u32 [chunks, 2] (first and end quad), partial [chunks, 2]. */
export function plan({ chunks, elements }: NormPartialsParams): KernelPlan {
  return {
    shader: 'norm_partials.wgsl',
    prelude: { COUNT: chunks },
    grid: foldGrid(chunks),
    bindings: ['read', 'read', 'read_write'],
    flops: 2 * elements,
    bytes: 4 * (elements + 4 * chunks),
  };
}
