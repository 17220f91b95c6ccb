/** The gradient of the mean cross-entropy over the rows that count. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { PixelCrossEntropyParams } from './pixel_cross_entropy.js';

/**
 * Bindings: logits f32 [rows, classes], labels u32 [rows], statistics f32 [rows, 2], totals f32 [2], upstream f32 [1],
 * dlogits f32 [rows, classes].
 */
export function plan({ rows, classes, ignored }: PixelCrossEntropyParams): KernelPlan {
  return {
    shader: 'pixel_cross_entropy_backward.wgsl',
    prelude: { IGNORED: ignored },
    parameters: [rows, classes],
    grid: foldGrid(Math.ceil((rows * classes) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 5 * rows * classes,
    bytes: 8 * rows * classes + 12 * rows,
  };
}
