/** The row sums of d_out ∘ out that attention's backward kernels subtract. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, type Storage, storedBytes } from './storage.js';

export interface AttentionDeltaParams {
  readonly rows: number;
  readonly heads: number;
  readonly headDim: number;
  /** Of the output and its gradient. */
  readonly storage?: Storage;
}

/** Bindings: out [rows, heads · headDim], d_out likewise, delta f32 [heads, rows]. */
export function plan({ rows, heads, headDim, storage = 'f32' }: AttentionDeltaParams): KernelPlan {
  return {
    shader: 'attention_delta.wgsl',
    includes: [quadInclude(storage)],
    prelude: { HEADS: heads, HEAD_DIM: headDim },
    grid: foldGrid(Math.ceil((rows * heads) / 64)),
    bindings: ['read', 'read', 'read_write'],
    flops: 2 * rows * heads * headDim,
    bytes: rows * heads * (2 * storedBytes(storage) * headDim + 4),
  };
}
