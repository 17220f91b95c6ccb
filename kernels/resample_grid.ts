/** A separable linear map of a token grid: position embeddings resized, or that map transposed (spec §1.4). */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';

export interface ResampleGridParams {
  readonly inHeight: number;
  readonly inWidth: number;
  readonly outHeight: number;
  readonly outWidth: number;
  readonly columns: number;
  /** Products of taps over all outputs, for the FLOP count. */
  readonly taps: number;
}

/** Bindings: grid [1 + inHeight inWidth, columns], rows [outHeight, inHeight], columns [outWidth, inWidth],
 * ranges u32 [outHeight + outWidth, 2], out [1 + outHeight outWidth, columns]. */
export function plan({ inHeight, inWidth, outHeight, outWidth, columns, taps }: ResampleGridParams): KernelPlan {
  const elements = (1 + outHeight * outWidth) * columns;
  return {
    shader: 'resample_grid.wgsl',
    prelude: { IN_H: inHeight, IN_W: inWidth, OUT_H: outHeight, OUT_W: outWidth, D: columns },
    grid: foldGrid(Math.ceil(elements / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read_write'],
    flops: 2 * taps * columns,
    bytes: 4 * (elements + (1 + inHeight * inWidth) * columns),
  };
}
