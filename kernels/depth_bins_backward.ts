/** The gradient of the depth that bins give. */

import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import type { DepthBinsParams } from './depth_bins.js';

/** Bindings: logits f32 [rows, bins], centres f32 [bins], depth, sums, ddepth f32 [rows], dlogits f32 [rows, bins]. */
export function plan({ rows, bins }: DepthBinsParams): KernelPlan {
  return {
    shader: 'depth_bins_backward.wgsl',
    prelude: {},
    parameters: [rows, bins],
    grid: foldGrid(Math.ceil((rows * bins) / 64)),
    bindings: ['read', 'read', 'read', 'read', 'read', 'read_write'],
    flops: 4 * rows * bins,
    bytes: 8 * rows * bins + 12 * rows,
  };
}
