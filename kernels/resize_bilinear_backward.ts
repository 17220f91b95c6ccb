/** The gradient of the bilinear resize, gathered by each input: no atomics, the same bits on every run. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { type ResizeBilinearParams, resizeWork } from './resize_bilinear.js';

/**
 * Bindings: dy f32 [pictures, outHeight, outWidth, channels], taps u32 [outHeight + outWidth, 2], ranges u32
 * [inHeight + inWidth, 2], dx f32 [pictures, inHeight, inWidth, channels].
 */
export function plan(params: ResizeBilinearParams): KernelPlan {
  const { pictures, inHeight, inWidth, outHeight, outWidth, channels } = params;
  const { unit, plan: work } = resizeWork(params);
  const inputs = pictures * inHeight * inWidth * channels;
  const outputs = pictures * outHeight * outWidth * channels;
  return {
    ...work,
    shader: 'resize_bilinear_backward.wgsl',
    grid: foldGrid(Math.ceil(inputs / unit / 64)),
    bindings: ['read', 'read', 'read', 'read_write'],
    // An output has a share of two inputs on each axis.
    flops: 12 * outputs,
    bytes: 4 * (outputs + inputs),
  };
}
