/** The row sums of d_out ∘ out that attention's backward kernels subtract. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface AttentionDeltaParams {
  readonly rows: number;
  readonly heads: number;
  readonly headDim: number;
}

/** Bindings: out [rows, heads · headDim], d_out likewise, delta [heads, rows]. */
export function plan({ rows, heads, headDim }: AttentionDeltaParams): KernelPlan {
  return {
    shader: 'attention_delta.wgsl',
    prelude: { HEADS: heads, HEAD_DIM: headDim },
    grid: foldGrid(Math.ceil((rows * heads) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 2 * rows * heads * headDim,
    bytes: 4 * rows * heads * (2 * headDim + 1),
  };
}
